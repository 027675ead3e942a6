"""A harvest can stop after any shard, and the same command finishes the store."""

import dataclasses

import numpy as np
import pytest

from jaxsae.errors import InputError
from jaxsae.harvest import HarvestConfig, harvest, pipeline
from jaxsae.lm import weights
from jaxsae.lm.gpt import GPTConfig, init
from jaxsae.store import StoreWriter, open_store


@pytest.fixture
def config(tmp_path):
    weights.save(init(GPTConfig(layers=1, d_model=16, heads=2), 0), tmp_path / "m.safetensors")
    return HarvestConfig(
        store=str(tmp_path / "s"), model=str(tmp_path / "m.safetensors"), sites=("resid_post.0",), tokens=1000,
        batch_size=8, shard_rows=256, chunk_rows=32,
    )  # fmt: skip


def test_complete_then_nothing_to_do(config, capsys):
    store = harvest(config)
    assert store.complete and store.rows == 1000 and store.metadata("resid_post.0")["model"] == config.model
    x = store.read("resid_post.0", 0, 1000).astype(np.float64)
    np.testing.assert_allclose(store.statistics("resid_post.0").mean, x.mean(0), atol=1e-6)
    assert "1,000 rows" in (said := capsys.readouterr().err) and "rows/s" in said and "MB/s" in said
    harvest(config)
    assert "complete already" in capsys.readouterr().err


def test_stopped_harvest_continues_to_the_same_store(config, monkeypatch, tmp_path, capsys):
    whole = harvest(dataclasses.replace(config, store=str(tmp_path / "whole")))
    write, written = StoreWriter.write_shard, []

    def fails_at_the_third(self, shard, *args):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(shard)
        return write(self, shard, *args)

    monkeypatch.setattr(StoreWriter, "write_shard", fails_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        harvest(config)
    monkeypatch.undo()
    assert open_store(config.store).missing == [(512, 1000)]
    capsys.readouterr()
    store = harvest(config)
    assert "2 of 4 shards are there" in capsys.readouterr().err
    np.testing.assert_array_equal(store.read("resid_post.0", 0, 1000), whole.read("resid_post.0", 0, 1000))
    np.testing.assert_array_equal(store.column("tokens", 0, 1000), whole.column("tokens", 0, 1000))
    assert store.metadata("resid_post.0") == whole.metadata("resid_post.0")


def test_processes_share_the_shards(config, monkeypatch):
    def as_process(index):
        monkeypatch.setattr(pipeline.jax, "process_count", lambda: 2)
        monkeypatch.setattr(pipeline.jax, "process_index", lambda: index)
        # As if the list had been made before either began.
        monkeypatch.setattr(pipeline.processes, "from_first", lambda name, make: [] if "list" in name else make())
        return harvest(config)

    assert as_process(1).completed_shards == [1, 3]
    assert as_process(0).complete


def test_other_settings_are_refused(config):
    harvest(config)
    for change in ({"seed": 1}, {"tokens": 999}, {"first_position": 0}, {"dtype": "bfloat16"}):
        with pytest.raises(InputError, match="begun with other settings"):
            harvest(dataclasses.replace(config, **change))


def test_bfloat16_rounds_to_nearest(config):
    exact = harvest(config).read("resid_post.0", 0, 1000)
    store = harvest(dataclasses.replace(config, store=config.store + "16", dtype="bfloat16"))
    rounded = store.read("resid_post.0", 0, 1000)
    assert rounded.dtype.name == "bfloat16"
    np.testing.assert_array_equal(rounded, exact.astype(rounded.dtype))
