"""Splices by --backend=jax, one compiled program over a mesh, give the figures of torch."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsae.config import to_flag_lines
from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.errors import InputError
from jaxsae.evaluate import EvaluateConfig, evaluate
from jaxsae.harvest import harvest
from jaxsae.lm.options import HFConfig
from jaxsae.parallel import make_mesh
from jaxsae.training import load, save_dictionary

D, WIDTH, K = 16, 48, 6
SITES = ("mlp_in.1", "mlp_out.1", "mlp_in.2", "mlp_out.2", "resid_post.1", "resid_post.2")
FIGURES = ("ce", "ce_spliced", "ce_zero", "ce_mean", "ce_skip", "kl", "kl_zero", "kl_mean", "kl_skip", "delta_ce")


@pytest.fixture
def store(make_model, configure):
    return harvest(configure(make_model("llama"), {"documents": "0:40", "packing": False}, sites=SITES))


def dictionary(store, reads, writes, architecture="topk", seed=0, skip=False, **changes) -> Dictionary:
    """A random one of some sites, whose latents and threshold are such that some are active and some not."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    transcode, several = reads != writes, len(reads) > 1 and reads == writes
    changes |= {"site_widths": (D,) * len(reads)} if several else {}
    config = MethodConfig(width=WIDTH, k=K, architecture=architecture, transcode=transcode, skip=skip, **changes)
    d_in, d_out = D * len(reads) // config.layers, D * len(writes)
    latent = {"W_enc": draw(WIDTH, d_in), "b_enc": draw(WIDTH) / 3, "W_dec": draw(WIDTH, d_out) / 10}
    latent |= {
        "jumprelu": lambda: {"threshold": abs(draw(WIDTH))},
        "gated": lambda: {"r_mag": draw(WIDTH) / 5, "b_mag": draw(WIDTH) / 3},
    }.get(architecture, dict)()
    shared = {"b_dec": draw(d_out) / 10} | ({"W_skip": draw(d_out, D * len(reads)) / D} if skip else {})
    join = "+".join if several else "->".join
    about = {"store": store.url, "source": "hf", "model": store.metadata(writes[0])["model"]}
    about |= {"reads": list(reads), "writes": list(writes), "site": join(dict.fromkeys((*reads, *writes)))}
    if len(reads) == 1 and reads == writes:
        about = {name: value for name, value in about.items() if name not in ("reads", "writes")}
    return Dictionary(Params(latent, shared), config, about, threshold=1.5 if architecture == "batchtopk" else 0.0)


@pytest.fixture
def both(tmp_path):
    """both(dictionary, mesh, ...): what splice finds by torch, and by JAX on a mesh."""

    def run(made: Dictionary, mesh: tuple[int, int], **flags) -> list[dict]:
        save_dictionary(tmp_path / "saved", made)
        devices = jax.devices()[: mesh[0] * mesh[1]]
        found = []
        for backend, over in (("torch", make_mesh((1, 1), devices[:1])), ("jax", make_mesh(mesh, devices))):
            config = EvaluateConfig(
                run=str(tmp_path / backend),
                suite=("splice",),
                sequences_per_batch=3,
                hf=HFConfig(backend=backend),
                **flags,
            )
            found.append(evaluate(config, load(str(tmp_path / "saved"), mesh=over), quiet=True)["splice"])
        return found

    return run


def same_figures(found: dict, wanted: dict) -> None:
    assert set(found) == set(wanted)
    for name in set(FIGURES) & set(wanted):
        assert found[name] == pytest.approx(wanted[name], rel=1e-4, abs=2e-5), name
    assert found["next_token_agreement"] == pytest.approx(wanted["next_token_agreement"], abs=1e-9)


@pytest.mark.parametrize("mesh", [(1, 1), (2, 2)])
@pytest.mark.parametrize("kind", ["sae", "transcoder"])
def test_figures_are_those_of_torch(kind, mesh, store, both):
    sites = (("resid_post.1",),) * 2 if kind == "sae" else (("mlp_in.1",), ("mlp_out.1",))
    wanted, found = both(dictionary(store, *sites, skip=kind == "transcoder"), mesh)
    for name in ("tokens", "sequences", "sites", "documents", "held_out"):
        assert found[name] == wanted[name]
    same_figures(found, wanted)
    assert ("ce_skip" in found) == (kind == "transcoder") and wanted["kl"] > 1e-3
    assert found["error_nodes"]["share"] == pytest.approx(wanted["error_nodes"]["share"], rel=1e-4)
    assert abs(found["error_nodes"]["kl"]) < 1e-6


@pytest.mark.parametrize("architecture", ["batchtopk", "gated"])
def test_however_latents_are_chosen(architecture, store, both):
    wanted, found = both(dictionary(store, ("resid_post.1",), ("resid_post.1",), architecture), (1, 2))
    same_figures(found, wanted)
    assert abs(found["error_nodes"]["kl"]) < 1e-6 < wanted["kl"]


def test_a_crosscoder_at_all_its_sites_and_at_each(store, both):
    sites = ("mlp_out.1", "resid_post.2")
    wanted, found = both(dictionary(store, sites, sites), (1, 2))
    same_figures(found, wanted)
    for site in sites:
        same_figures(found["each"][site], wanted["each"][site])
    assert found["error_nodes"]["share"] == pytest.approx(wanted["error_nodes"]["share"], rel=1e-4)
    assert abs(found["error_nodes"]["kl"]) < 1e-6


def test_a_cross_layer_transcoder(store, both):
    reads, writes = ("mlp_in.1", "mlp_in.2"), ("mlp_out.1", "mlp_out.2")
    wanted, found = both(dictionary(store, reads, writes, "batchtopk", layers=2), (1, 2))
    same_figures(found, wanted)
    for site in writes:
        same_figures(found["each"][site], wanted["each"][site])
    assert found["error_nodes"]["share"] == pytest.approx(wanted["error_nodes"]["share"], rel=1e-4)
    assert abs(found["error_nodes"]["kl"]) < 1e-6


def test_two_dictionaries_at_once(store, both, tmp_path):
    save_dictionary(tmp_path / "other", dictionary(store, ("resid_post.2",), ("resid_post.2",), seed=1))
    made = dictionary(store, ("mlp_in.1",), ("mlp_out.1",))
    wanted, found = both(made, (1, 2), splice_with=(str(tmp_path / "other"),))
    same_figures(found, wanted)
    for site in ("mlp_out.1", "resid_post.2"):
        same_figures(found["each"][site], wanted["each"][site])
    assert abs(found["error_nodes"]["kl"]) < 1e-6


def test_refusals(store, both, tmp_path):
    made = dictionary(store, ("resid_post.1",), ("resid_post.1",))
    run = lambda made, **options: evaluate(
        EvaluateConfig(run=str(tmp_path / "r"), suite=("splice",), hf=HFConfig(backend="jax", **options)),
        made,
        quiet=True,
    )
    with pytest.raises(InputError, match="--device=cpu: is for --backend=torch"):
        run(made, device="cpu")
    moved = dataclasses.replace(made, metadata=made.metadata | {"site": "model.layers.1"})
    with pytest.raises(InputError, match="model.layers.1"):
        run(moved)
    later = dictionary(store, ("resid_post.2",), ("mlp_out.1",))
    with pytest.raises(InputError, match="site resid_post.2 comes after mlp_out.1, which is to be made of it"):
        run(later)


def test_a_set_is_compounded_without_torch(make_set, without_torch, tmp_path):
    path = make_set(reads=("mlp_in.*",), writes=("mlp_out.*",), skip=True)
    config = lambda backend, path: EvaluateConfig(
        run=str(path), suite=("splice",), text_tokens=150, hf=HFConfig(backend=backend)
    )
    wanted = evaluate(config("torch", path), quiet=True)["compounding"]
    done = without_torch("evaluate", *to_flag_lines(config("jax", path)))
    assert done.returncode == 0, done.stderr
    found = json.loads((path / "eval" / "compounding.json").read_text())
    for mine, theirs in zip(found["rows"], wanted["rows"], strict=True):
        same_figures(mine, theirs)
        assert mine["sites"] == theirs["sites"]
    assert abs(found["error_nodes"]["kl"]) < 1e-6
