"""Sets of circuit-tracer's by lists of files, from a hub too, and whole: a run of each layer that are evaluated together."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from jaxsae.errors import InputError
from jaxsae.evaluate import EvaluateConfig, evaluate
from jaxsae.exchange import ImportConfig, describe_export, import_
from jaxsae.exchange.files import write_safetensors
from jaxsae.exchange.formats import find, read_any
from jaxsae.inspect import InspectConfig, inspect
from jaxsae.store import Plan, StoreWriter
from jaxsae.training import load
from jaxsae.training.sets import complete_runs, is_set

D, N, LAYERS, ROWS = 12, 32, 3, 256
HOOKS = {"feature_input_hook": "mlp.hook_in", "feature_output_hook": "hook_mlp_out"}


def arrays(layer: int, past: bool = False) -> dict[str, np.ndarray]:
    """Of Gemma Scope's names."""
    rng = np.random.default_rng(layer)
    draw = lambda *shape: (rng.standard_normal(shape) / 2).astype(np.float32)
    found = {"W_enc": draw(D, N), "b_enc": draw(N), "W_dec": draw(N, D), "b_dec": draw(D)}
    found |= {"threshold": rng.uniform(0.3, 1, N).astype(np.float32)}
    return found | ({"affine_skip_connection": draw(D, D)} if past else {})


def of_layer(layer: int, x: np.ndarray, past: bool = False) -> np.ndarray:
    """What that makes of rows, by the formula."""
    a = arrays(layer, past)
    pre = x @ a["W_enc"] + a["b_enc"]
    y = (pre * (pre > a["threshold"])) @ a["W_dec"] + a["b_dec"]
    return y + (x @ a["affine_skip_connection"] if past else 0)


def write_plain(path: Path, layer: int) -> None:
    """A file of circuit-tracer's own."""
    a = arrays(layer)
    a["W_enc"], a["activation_function.threshold"] = a["W_enc"].T, a.pop("threshold")
    write_safetensors(path, a)


def settings(path: Path, kind: str = "transcoder_set", **more) -> Path:
    path.mkdir(exist_ok=True)
    (path / "config.yaml").write_text(yaml.safe_dump({"model_kind": kind, "model_name": "m", **HOOKS, **more}))
    return path


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(9).standard_normal((50, D)).astype(np.float32)


@pytest.fixture
def listed(tmp_path, serve):
    """A directory with settings alone: its layers are a file beside, an .npz of a hub, and one of Gemma Scope 2."""
    np.savez(tmp_path / "of_hub.npz", **arrays(1))
    source = settings(
        tmp_path / "in",
        transcoders=["parts/a.safetensors", "hf://own/er/layer_1/params.npz?revision=main", "new.safetensors"],
    )
    (source / "parts").mkdir()
    write_plain(source / "parts/a.safetensors", 0)
    new = {name.lower(): array for name, array in arrays(2, past=True).items()}
    write_safetensors(source / "new.safetensors", new)
    files = {"layer_1/params.npz": (tmp_path / "of_hub.npz").read_bytes(), "layer_1/other.npz": b"not asked for"}
    return source, serve({"own/er": files})


def test_layers_are_where_the_list_says(listed, x, relative, tmp_path):
    source, hub = listed
    assert find(source) == "circuit_tracer" and "layers        3" in describe_export(source)
    for layer, past in enumerate((False, False, True)):
        back = read_any(source, layer=layer)
        assert relative(np.asarray(back.reconstruct(x)), of_layer(layer, x, past)) < 1e-5
        assert back.metadata["site"] == f"mlp_in.{layer}->mlp_out.{layer}" and back.config.skip == past
    assert hub.fetched == ["layer_1/params.npz"]


def test_a_list_that_does_not_do_is_refused(tmp_path):
    for said, message in (
        ("a", "transcoders = a, expected a list of files"),
        (["a.safetensors"], "a.safetensors is (damaged|missing)"),
        (["hf://own"], "hf://own is no file of a hub, such as hf://OWNER/NAME/FOLDER/FILE"),
    ):
        with pytest.raises(InputError, match=message):
            read_any(settings(tmp_path / "in", transcoders=said), "circuit_tracer", layer=0)


@pytest.fixture
def store(tmp_path) -> str:
    rng = np.random.default_rng(0)
    sites = [f"{side}.{layer}" for layer in range(LAYERS) for side in ("mlp_in", "mlp_out")]
    plan = Plan(ROWS, dict.fromkeys(sites, D), settings={"source": "test"}, context=1, shard_rows=256, chunk_rows=32)
    writer = StoreWriter(str(tmp_path / "store"), plan)
    columns = {name: np.arange(ROWS) for name in ("tokens", "sequence", "position")}
    writer.write_shard(0, {site: rng.standard_normal((ROWS, D)).astype(np.float32) for site in sites}, columns)
    assert writer.finish()
    return str(tmp_path / "store")


def test_a_set_comes_whole_and_is_evaluated_together(store, x, relative, tmp_path, capsys):
    source = settings(tmp_path / "in")
    for layer in range(LAYERS):
        write_plain(source / f"layer_{layer}.safetensors", layer)
    with pytest.raises(InputError, match="--site=a: .* has layers 0 to 2: give --layer with it, or"):
        import_(ImportConfig(input=str(source), output=str(tmp_path / "set"), site="a"))
    run = import_(ImportConfig(input=str(source), output=str(tmp_path / "set"), k=5))
    said = f"--initialize_from={run} --architecture=jumprelu --width=32 --k=5 '--reads=mlp_in.*' '--writes=mlp_out.*' --store"
    assert said in capsys.readouterr().err
    other = import_(ImportConfig(input=str(source), output=str(tmp_path / "other"), site="blocks.*.a->b.*"))
    assert load(other / "b.2").metadata["reads"] == ["blocks.2.a"]
    assert is_set(run) and [p.name for p in complete_runs(run)] == ["mlp_out.0", "mlp_out.1", "mlp_out.2"]
    for layer, path in enumerate(complete_runs(run)):
        assert relative(np.asarray(load(path).reconstruct(x)), of_layer(layer, x)) < 1e-5
    found = evaluate(EvaluateConfig(run=str(run), store=store), quiet=True)
    assert list(found) == ["mlp_out.0", "mlp_out.1", "mlp_out.2"]
    assert all(one["reconstruction"]["k"] == 5 and one["reconstruction"]["l0"] > 1 for one in found.values())
    told = inspect(InspectConfig(str(run)))
    assert told.startswith("set ") and told.count("jumprelu, 32 latents") == 3 and "left" not in told
    with pytest.raises(InputError, match="holds runs of several sites, mlp_out.0, mlp_out.1, mlp_out.2. Give one"):
        load(run)


def cross_layer_files(path: Path) -> list[str]:
    names = []
    for layer in range(LAYERS):
        a = {name.lower(): array for name, array in arrays(layer).items()}
        a["w_dec"] = np.stack([a["w_dec"]] * LAYERS, 1) * (np.arange(LAYERS) >= layer)[:, None].astype(np.float32)
        names.append(f"params_layer_{layer}.safetensors")
        write_safetensors(path / names[-1], a)
    return names


@pytest.mark.parametrize("by", ["gemma_scope", "circuit_tracer"])
def test_gemma_scopes_cross_layer_files_come_in_by_themselves_and_by_a_list(by, relative, tmp_path):
    path = tmp_path / "in"
    path.mkdir()
    names = cross_layer_files(path)
    if by == "circuit_tracer":
        settings(path, "cross_layer_transcoder", transcoders=names)
    else:
        hooks = {"in": "pre_feedforward_layernorm", "out": "post_feedforward_layernorm"}
        said = {f"hf_hook_point_{side}": f"model.layers.0.{name}.output" for side, name in hooks.items()}
        (path / "config.json").write_text(json.dumps({"architecture": "jump_relu", "model_name": "m"} | said))
    assert find(path) == by
    back = read_any(path)
    x = np.random.default_rng(1).standard_normal((50, LAYERS * D)).astype(np.float32)
    each = [of_layer(i, x[:, i * D : (i + 1) * D]) - arrays(i)["b_dec"] for i in range(LAYERS)]
    expected = np.concatenate([sum(each[: i + 1]) + arrays(i)["b_dec"] for i in range(LAYERS)], 1)
    assert relative(np.asarray(back.reconstruct(x)), expected) < 1e-5
    assert back.metadata["writes"] == [f"mlp_out.{i}" for i in range(LAYERS)] and back.config.layers == LAYERS


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda t: t | {"affine_skip_connection": np.eye(D)}, "nothing skips the latents of jaxsae's cross-layer"),
        (lambda t: t | {"w_dec": t["w_dec"][:, :2]}, "w_dec writes 2 layers, and there are files of 3"),
        (lambda t: t | {"w_dec": np.ones_like(t["w_dec"])}, "w_dec writes layers before its own, 1; expected 0"),
    ],
)
def test_cross_layer_files_that_do_not_do_are_refused(harm, message, tmp_path):
    from jaxsae.exchange.files import read_safetensors

    cross_layer_files(tmp_path)
    path = tmp_path / "params_layer_1.safetensors"
    write_safetensors(path, harm(read_safetensors(path)))
    with pytest.raises(InputError, match=message):
        read_any(tmp_path)
