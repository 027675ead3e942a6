"""What came in as each kind of files is evaluated, goes out, is swept over, and its training goes on as import says."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxsae.calls import configuration
from jaxsae.config import from_flag_lines
from jaxsae.dictionary import Dictionary, fold
from jaxsae.evaluate import EvaluateConfig, evaluate
from jaxsae.exchange import ExportConfig, ImportConfig, export, import_
from jaxsae.exchange.files import write_safetensors
from jaxsae.exchange.formats import FORMATS
from jaxsae.exchange.holds import HOLDS, TRANSCODERS
from jaxsae.store import Plan, StoreWriter
from jaxsae.sweep import SweepConfig, sweep
from jaxsae.training import load
from jaxsae.training.setup import Setup

D, WIDTH, K, ROWS = 16, 64, 4, 512
SITES = ("resid_post.0", "mlp_in.0", "mlp_out.0", "mlp_in.1", "mlp_out.1")
VERSION = {"sae_lens_version": "6.54.12"}


@pytest.fixture(scope="module", autouse=True)
def compiled_once(compilation_cache):
    """The same step is compiled once for all runs."""


@pytest.fixture(scope="module")
def rows() -> dict[str, np.ndarray]:
    """{site: float32 [512, 16]}: sparse sums of 32 directions, off centre."""
    rng = np.random.default_rng(0)
    active = rng.random((ROWS, 32)) * (rng.random((ROWS, 32)) < 0.1)
    return {site: (active @ rng.normal(size=(32, D)) + rng.normal(size=D)).astype(np.float32) for site in SITES}


@pytest.fixture(scope="module")
def store(rows, tmp_path_factory) -> str:
    url = str(tmp_path_factory.mktemp("rows") / "store")
    plan = Plan(ROWS, dict.fromkeys(SITES, D), settings={"source": "test"}, context=1, shard_rows=128, chunk_rows=32)
    writer = StoreWriter(url, plan)
    for shard in range(plan.shards):
        first, last = plan.shard_range(shard)
        columns = {name: np.arange(first, last) for name in ("tokens", "sequence", "position")}
        writer.write_shard(shard, {site: x[first:last] for site, x in rows.items()}, columns)
    assert writer.finish()
    return url


def arrays(seed: int = 0, d_out: int = D, n: int = WIDTH) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, d_out)).astype(np.float32)
    found = {"W_enc": rng.normal(size=(D, n)) / 4, "b_enc": rng.normal(size=n) / 4, "W_dec": rows / 4}
    return found | {"b_dec": rng.normal(size=d_out)} | {"threshold": rng.uniform(0.3, 1.0, n)}


def saelens(architecture: str, hooks: tuple[str, ...] = ("blocks.0.hook_resid_post",), **settings) -> Callable:
    """Files of SAELens; `settings` beside those that all have, those of the training as `details`."""

    def write(path: Path) -> None:
        tensors = {name: np.float32(a) for name, a in arrays().items() if name != "threshold" or "jump" in architecture}
        more = {"r_mag": 0.1 * np.ones(WIDTH), "b_mag": tensors["b_enc"], "b_gate": tensors.pop("b_enc") - 0.5}
        tensors |= {name: np.float32(a) for name, a in more.items()} if architecture == "gated" else {}
        tensors |= {"b_enc": np.float32(arrays()["b_enc"])} if architecture != "gated" else {}
        tensors |= {"W_skip": np.eye(D, dtype=np.float32)} if "skip" in architecture else {}
        told = VERSION | dict(zip(("hook_name", "hook_name_out"), hooks, strict=False)) | settings.pop("told", {})
        if told.get("training_architecture", "").endswith("batchtopk"):
            tensors["threshold"] = np.full(WIDTH, 0.6, np.float32)
        common = {"d_in": D, "d_sae": WIDTH, "apply_b_dec_to_input": len(hooks) == 1, "dtype": "float32"}
        write_safetensors(path / "sae_weights.safetensors", tensors)
        config = {"architecture": architecture, **common, "metadata": told, **settings}
        (path / "cfg.json").write_text(json.dumps(config))

    return write


def sparsify(path: Path) -> None:
    a = {name: np.float32(array) for name, array in arrays().items()}
    tensors = {"encoder.weight": a["W_enc"].T, "encoder.bias": a["b_enc"], "W_dec": a["W_dec"], "b_dec": a["b_dec"]}
    folder = path / "layers.0.mlp"
    folder.mkdir()
    write_safetensors(folder / "sae.safetensors", tensors | {"W_skip": np.tri(D, dtype=np.float32) / D})
    config = {"d_in": D, "num_latents": WIDTH, "k": K, "transcode": True, "skip_connection": True}
    (folder / "cfg.json").write_text(json.dumps(config))


def gemma_scope(path: Path) -> None:
    path = path / "google/gemma-scope-2b-pt-res/layer_0/average_l0_4"
    path.mkdir(parents=True)
    np.savez(path / "params.npz", **arrays())


def cross_layer(path: Path) -> None:
    for layer in range(2):
        of = {name: np.float32(array) for name, array in arrays(layer, n=WIDTH // 2).items()}
        rows = np.stack([of.pop("W_dec")] * 2, 1) * (np.arange(2) >= layer)[:, None]
        tensors = {name.lower(): a for name, a in of.items()} | {"w_dec": np.float32(rows)}
        write_safetensors(path / f"params_layer_{layer}.safetensors", tensors)
    names = {"in": "pre_feedforward_layernorm", "out": "post_feedforward_layernorm"}
    hooks = {f"hf_hook_point_{side}": f"model.layers.0.{name}.output" for side, name in names.items()}
    (path / "config.json").write_text(json.dumps({"architecture": "jump_relu", "model_name": "m"} | hooks))


_ACROSS = ("blocks.0.mlp.hook_in", "blocks.0.hook_mlp_out")
_NESTED = {"training_architecture": "matryoshka_batchtopk"}
_NESTED |= {"training_architecture_details": {"k": K, "matryoshka_widths": [8, 24, WIDTH]}}
KINDS: dict[str, tuple[Callable, str]] = {  # files, and the architecture that they come in as
    "jumprelu": (gemma_scope, "jumprelu"),
    "gated": (saelens("gated"), "gated"),
    "standard": (saelens("standard"), "relu"),
    "topk, chosen by norm": (saelens("topk", k=K, rescale_acts_by_decoder_norm=True), "topk"),
    "matryoshka": (saelens("jumprelu", told=_NESTED), "matryoshka"),
    "jumprelu transcoder with skip": (saelens("jumprelu_skip_transcoder", _ACROSS, d_out=D), "jumprelu"),
    "topk transcoder with skip": (sparsify, "topk"),
    "cross-layer transcoder": (cross_layer, "jumprelu"),
}


@pytest.fixture
def imported(tmp_path):
    """imported(kind) -> the run that its files become."""

    def make(kind: str) -> Path:
        (tmp_path / "in").mkdir()
        KINDS[kind][0](tmp_path / "in")
        found = next(p for p in tmp_path.rglob("*") if p.suffix in (".npz", ".safetensors")).parent
        return import_(ImportConfig(input=str(found), output=str(tmp_path / "run")))

    return make


def flags_said(text: str) -> dict[str, str]:
    """The flags of the command that import says."""
    command = re.search(r"jaxsae train (.*) --store=STORE", text)[1]
    return {flag[2:].partition("=")[0]: flag.partition("=")[2] or "true" for flag in shlex.split(command)}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_evaluated_goes_out_and_its_training_goes_on(kind, imported, store, rows, tmp_path, capsys):
    run = imported(kind)
    said = flags_said(capsys.readouterr().err)
    dictionary = load(run)
    assert dictionary.config.architecture == KINDS[kind][1] == said["architecture"]
    site, about = dictionary.metadata["site"].split("->"), dictionary.metadata
    x, y = (np.concatenate([rows[s] for s in side.split("+")], 1) for side in (site[0], site[-1]))
    error = np.square(np.asarray(dictionary.reconstruct_all(x)) - y).sum() / np.square(y - y.mean(0)).sum()

    figures = evaluate(EvaluateConfig(run=str(run), store=store, rows=ROWS, batch_size=ROWS), quiet=True)[
        "reconstruction"
    ]
    assert figures["fvu"] == pytest.approx(error, rel=0.02) and 0 < figures["l0"] < 0.6 * WIDTH

    held = (TRANSCODERS if dictionary.config.transcode else HOLDS).items()
    able = [name for name, kinds in held if dictionary.config.architecture in kinds and name in FORMATS]
    able = [name for name in able if name != "dictionary_learning" and (name != "saelens" or "cross" not in kind)]
    out = export(ExportConfig(str(run), able[0], str(tmp_path / "out")))
    back = load(import_(ImportConfig(input=str(out), output=str(tmp_path / "back"))))
    np.testing.assert_allclose(back.reconstruct_all(x), dictionary.reconstruct_all(x), rtol=1e-4, atol=1e-4)
    assert {side: back.metadata.get(side) for side in ("site", "reads")} == {s: about.get(s) for s in ("site", "reads")}

    given = said | {
        "store": store,
        "workdir": str(tmp_path / "on"),
        "tokens": 128,
        "batch_size": 64,
        "holdout_rows": 256,
    }
    given |= {} if "reads" in about else {"site": about["site"]}
    config = configuration("train", given | ({"aux_k": 4} if dictionary.config.is_ranking else {}))
    setup = Setup.of(config, give_up=lambda: None)  # whose checks are those of a run
    params = jax.tree.map(np.asarray, setup.fresh_state().params)
    sides = setup.normalization.sides(setup.widths)
    method = setup.method
    params = fold(params, sides[0], method.pre_bias, method.selection, sides[1])
    starts = Dictionary(params, setup.config.method, threshold=dictionary.threshold)
    if dictionary.config.is_ranking:  # rows of other lengths are brought to one, and others are the largest then
        assert np.isfinite(starts.reconstruct_all(x)).all()
    else:
        np.testing.assert_allclose(starts.reconstruct_all(x), dictionary.reconstruct_all(x), rtol=1e-3, atol=1e-3)


def test_it_is_swept_over(imported, store, tmp_path, capsys):
    run = imported("jumprelu")
    said = flags_said(capsys.readouterr().err)
    given = said | {"store": store, "workdir": tmp_path / "sweep", "tokens": 128, "batch_size": 64, "holdout_rows": 256}
    given |= {"site": "resid_post.0", "learning_rate": "0.001,0.003", "evaluate": ""}
    sweep(from_flag_lines(SweepConfig, [f"--{name}={value}" for name, value in given.items()]))
    members = sorted(p for p in (tmp_path / "sweep/members").iterdir() if p.is_dir())
    assert len(members) == 2
    start = np.asarray(load(run).params.latent["threshold"])
    for member in members:
        found = np.asarray(load(member).params.latent["threshold"])
        norms = np.linalg.norm(np.asarray(load(run).params.W_dec), axis=1)
        assert np.corrcoef(found, start * norms)[0, 1] > 0.99  # of latents as large again as their rows were long
