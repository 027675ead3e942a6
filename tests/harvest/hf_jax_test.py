"""Rows that --backend=jax makes are those of torch, whatever the mesh and the number of processes."""

import dataclasses
import json
import re
import shutil
from pathlib import Path
from signal import SIGTERM

import jax
import numpy as np
import pytest

from jaxsae.config import to_flag_lines
from jaxsae.errors import InputError
from jaxsae.faults.children import Children
from jaxsae.harvest import harvest
from jaxsae.harvest.hf import open_hf
from jaxsae.lm import backend, libraries
from jaxsae.lm.checkpoint import find
from jaxsae.lm.options import HFConfig
from jaxsae.store import open_store

SITES = ("embed", "attn_out.0", "mlp_in.1", "mlp_out.1", "resid_post.2")


def on(config, backend: str = "jax", mesh: tuple[int, ...] = (1, 1), store: str = "", **changes):
    """The flags for a backend; a mesh smaller than the eight devices of a test is made of the first of them."""
    hf = dataclasses.replace(config.hf, backend=backend)
    url = str(Path(config.store).parent / store) if store else config.store
    return dataclasses.replace(config, hf=hf, mesh=mesh if backend == "jax" else (), store=url, **changes)


@pytest.fixture
def devices(monkeypatch):
    """devices(n): this process has so many."""
    every = jax.devices()
    return lambda n: [monkeypatch.setattr(jax, name, lambda: every[:n]) for name in ("devices", "local_devices")]


def equal(found, wanted, rtol: float = 1e-4) -> None:
    assert found.sites == wanted.sites and found.rows == wanted.rows
    for site in wanted.sites:
        x, y = (store.read(site, 0, store.rows).astype(np.float64) for store in (found, wanted))
        assert np.abs(x - y).max() <= rtol * np.abs(y).max(), site
    for column in ("tokens", "sequence", "position"):
        np.testing.assert_array_equal(found.column(column, 0, found.rows), wanted.column(column, 0, wanted.rows))


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_rows_are_those_of_torch_on_every_mesh(family, make_model, configure, devices):
    # Documents of their own, of many lengths, and a last batch that is short.
    config = configure(make_model(family), {"packing": False, "context": 40}, sites=SITES, batch_size=8)
    wanted = harvest(on(config, "torch"))
    assert wanted.metadata("embed")["settings"]["sequences"] % 8
    assert "backend" not in wanted.metadata("embed")["settings"]
    for mesh in ((1, 1), (2, 2)):
        devices(mesh[0] * mesh[1])
        found = harvest(on(config, "jax", mesh, f"jax{mesh}"))
        equal(found, wanted)
        settings = found.metadata("embed")["settings"]
        assert settings == wanted.metadata("embed")["settings"] | {"backend": "jax"}


def test_one_shape_is_compiled_for_all_batches(make_model, configure):
    from jaxsae.lm.decoder import program

    config = on(configure(make_model("llama"), {"packing": False}, batch_size=8), mesh=(8, 1))
    source, shapes = open_hf(config), []
    program._compiled.cache_clear()
    compiled = program._compiled

    def watched(*args):
        run = compiled(*args)
        return lambda weights, tokens: shapes.append(tokens.shape) or run(weights, tokens)

    program._compiled = watched
    try:
        for shard in range(source.plan.shards):
            source.shard(shard)
    finally:
        program._compiled = compiled
    assert len(shapes) > 4 and set(shapes) == {(8, 64)} and len(source.sequences) % 8


def test_the_next_batch_is_begun_before_one_is_waited_for(make_model, configure):
    source, told = open_hf(on(configure(make_model("llama")), mesh=(1, 8))), []
    start = source._start

    def watched(tokens, kept, wanted):
        number, finish = sum(kind == "begun" for kind, _ in told), start(tokens, kept, wanted)
        told.append(("begun", number))
        return lambda: told.append(("waited", number)) or finish()

    source._start = watched
    made = list(source.shards(range(source.plan.shards), lambda _: True, lambda: True))
    assert len(made) == source.plan.shards
    batches = source.sequences.batches
    order = [("begun", 0)]
    for number in range(batches):
        order += [("begun", number + 1)] * (number + 1 < batches) + [("waited", number)]
    assert told == order


def test_a_cut_harvest_is_continued_and_torch_does_not_continue_it(make_model, configure):
    config = on(configure(make_model("llama")), mesh=(4, 2))
    whole = harvest(config)
    rows = whole.read("resid_post.1", 0, whole.rows)
    for column in ("tokens", "sites/resid_post.1/activations"):
        (Path(config.store) / column / "c" / ("2" if column == "tokens" else "2/0")).unlink()
    assert not open_store(config.store).complete
    with pytest.raises(InputError, match="--backend=jax in the store, torch asked"):
        harvest(on(config, "torch"))
    np.testing.assert_array_equal(harvest(config).read("resid_post.1", 0, whole.rows), rows)


@pytest.mark.parametrize("mesh", [(2, 1), (2, 2), (1, 4)])
def test_several_processes_make_the_rows_of_one(mesh, make_model, configure, tmp_path):
    """(2, 1): each has a mesh of its own two devices; else one mesh is over both."""
    config = on(configure(make_model("llama"), sites=("attn_out.1", "resid_post.1")), mesh=mesh, store="several")
    with Children(tmp_path / "out", ["harvest", *to_flag_lines(config)], 2, devices=2) as run:
        assert run.wait() == [0, 0], run.output() + run.output(1)
        assert "by process 0 of 2" in run.output()
    equal(open_store(config.store), harvest(on(config, "torch", store="one")))


def test_sigterm_stops_all_processes_of_one_mesh_and_they_go_on(make_model, configure, tmp_path):
    config = on(configure(make_model("llama"), shard_rows=32), mesh=(2, 2), store="several")
    script = tmp_path / "slowly.py"
    script.write_text(
        "import sys, time\nfrom jaxsae import cli\nfrom jaxsae.store import StoreWriter\n"
        "write = StoreWriter.write_shard\n"
        "StoreWriter.write_shard = lambda *args: time.sleep(0.2) or write(*args)\n"
        "sys.exit(cli.run(sys.argv[1:]))\n"
    )
    shards = Path(config.store) / "tokens" / "c"
    written = lambda: len(list(shards.iterdir())) if shards.exists() else 0
    with Children(tmp_path / "first", [str(script), "harvest", *to_flag_lines(config)], 2, devices=2) as run:
        assert run.until(lambda: written() >= 3), run.output() + run.output(1)
        run.signal(1, SIGTERM)
        assert run.wait(60) == [75, 75], run.output() + run.output(1)
    assert 3 <= written() < 20 and not open_store(config.store).complete
    with Children(tmp_path / "second", ["harvest", *to_flag_lines(config)], 2, devices=2) as run:
        assert run.wait() == [0, 0], run.output() + run.output(1)
    equal(open_store(config.store), harvest(on(config, "torch", store="one")))


def test_torch_is_not_needed(make_model, configure, without_torch, tmp_path):
    config = configure(make_model("llama"), tokens=200, batch_size=8, shard_rows=256, store=str(tmp_path / "without"))
    lines = to_flag_lines(config)
    done = without_torch("harvest", *lines)
    assert done.returncode == 0, done.stderr
    assert "--backend=auto: jax runs the model" in done.stderr and "PyTorch" not in done.stderr
    equal(open_store(config.store), harvest(on(config, "torch", store="with")))
    asked = to_flag_lines(on(configure(make_model("bert")), "torch"))
    done = without_torch("harvest", *asked)
    assert done.returncode == 2 and "torch is needed" in done.stderr


@pytest.fixture
def altered(make_model, tmp_path):
    """altered(family, field=value, ...): a model whose config.json says something else."""

    def make(family: str, **fields) -> str:
        path = tmp_path / f"altered{len(list(tmp_path.iterdir()))}"
        shutil.copytree(make_model(family), path)
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps(config | fields))
        return str(path)

    return make


def test_what_jax_cannot_run_is_refused_before_weights_are_read(make_model, configure, altered, monkeypatch):
    def load(*_):
        raise AssertionError("weights were read")

    monkeypatch.setattr("jaxsae.lm.decoder.lm.load", load)
    llama = make_model("llama")
    for config, words in [
        (configure(make_model("bert")), "model_type='bert' .* not implemented by --backend=jax.*Take --backend=torch"),
        (configure(altered("llama", hidden_act="selu")), "activation function='selu' .* not implemented"),
        (configure(altered("llama", quantization_config={"quant_method": "x"})), "quantised"),
        (configure(llama, sites=("model.layers.1",)), "--sites=model.layers.1: no such site.*modules' paths take"),
        (configure(llama, sites=()), "--sites=: no such site. This model has: embed"),
        (configure(llama, {"context": 65}), "--context=65: the model takes 64"),
        (configure(llama, batch_size=6), "--batch_size=6: must be a multiple of the 8 data shards"),
        (configure(altered("llama", vocab_size=3)), "gives token .* and the model has 3: it is another model's"),
        (configure(altered("llama", intermediate_size=33)), r"gate_proj.weight is \[32, 16\], which does not fit"),
        (configure(altered("llama", num_hidden_layers=4)), "lack weights, model.layers.3"),
        (configure(altered("llama", num_hidden_layers=2)), "model.layers.2.* is no weight that --backend=jax knows"),
    ]:
        with pytest.raises(InputError, match=words):
            open_hf(on(config, mesh=() if config.batch_size == 6 else (2, 4)))
    with pytest.raises(InputError, match="--mesh=3,1"):
        open_hf(on(configure(llama), mesh=(3, 1)))
    config = on(configure(llama))
    with pytest.raises(InputError, match="--device=cpu: is for --backend=torch"):
        open_hf(dataclasses.replace(config, hf=dataclasses.replace(config.hf, device="cpu")))
    with pytest.raises(InputError, match="--mesh=1,1: is for --backend=jax"):
        open_hf(dataclasses.replace(on(config, "torch"), mesh=(1, 1)))
    with pytest.raises(AssertionError, match="weights were read"):
        open_hf(on(configure(llama), mesh=(1, 8)))


def test_which_backend_auto_takes(make_model, altered, monkeypatch, capsys):
    chosen = lambda model, *sites: backend.choose(find(model, HFConfig()), sites)
    llama = make_model("llama")
    assert chosen(llama, "embed") == "torch" and not capsys.readouterr().err
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert chosen(llama, "embed") == "jax" and "auto: jax runs the model on 8 tpu" in capsys.readouterr().err
    for model, site, why in [
        (llama, "model.layers.1", "auto: torch runs the model, since --sites=model.layers.1: no such site"),
        (make_model("bert"), "embed", "auto: torch runs .* model_type='bert'"),
        (altered("llama", hidden_act="selu"), "embed", "auto: torch runs .*='selu'"),
    ]:
        assert chosen(model, site) == "torch"
        assert re.search(why, capsys.readouterr().err)
    monkeypatch.setattr(libraries, "has_torch", lambda: False)
    with pytest.raises(InputError, match="model_type='bert'"):
        chosen(make_model("bert"), "embed")
