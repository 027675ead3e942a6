"""Training on a store that is still being written gives the bits of training on it when whole, within a bounded disk."""

import dataclasses
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from jaxsae.config import to_flag_lines
from jaxsae.dictionary import MethodConfig
from jaxsae.errors import InputError
from jaxsae.faults.children import Children
from jaxsae.harvest import HarvestConfig, harvest
from jaxsae.store import Batches, Shards, follow, open_store
from jaxsae.training import train
from jaxsae.training.checkpoint import read_metadata


@pytest.fixture
def begin(rows, tmp_path):
    """begin(name, **flags) -> the configuration of a harvest of 16 shards."""
    np.save(tmp_path / "x.npy", rows)

    def make(name, **flags):
        flags = {"input": (str(tmp_path / "x.npy"),), "shard_rows": 128, "chunk_rows": 32} | flags
        return HarvestConfig(store=str(tmp_path / name), source="arrays", **flags)

    return make


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(follow, "POLL_SECONDS", 0.02)


def bits(config):
    step, metadata = read_metadata(Path(config.workdir) / "checkpoints")
    return step, metadata["sums"]


def shards_of(config):
    return sorted(int(path.parent.name) for path in Path(config.store).glob("sites/*/activations/c/*/0"))


SITES = {
    "one site": {"mesh": (2, 4)},
    "transcoder": {"reads": ("mlp_in",), "writes": ("mlp_out",), "method": MethodConfig(width=64, k=4, transcode=True)},
    "crosscoder": {"reads": ("mlp_out", "mlp_in")},
}


@pytest.mark.parametrize("sites", SITES)
def test_a_run_beside_its_harvest_ends_as_one_on_the_whole_store(sites, begin, configure, rows, tmp_path, capsys):
    for name, x in {"mlp_in": rows, "mlp_out": np.tanh(rows[:, :10])}.items():
        np.save(tmp_path / f"{name}.npy", x)
    files = (
        {"input": tuple(f"{name}={tmp_path / name}.npy" for name in ("mlp_in", "mlp_out"))}
        if "reads" in SITES[sites]
        else {}
    )
    growing, whole = (begin(name, **files) for name in ("growing", "whole"))
    harvest(whole)
    late = threading.Thread(target=lambda: (time.sleep(1), harvest(growing)))
    late.start()
    flags = {"follow": True, "steps": 30, "mesh": (1, 1), **SITES[sites]}
    follows = configure("follows", store=growing.store, **flags)
    train(follows)
    late.join()
    assert "waiting for the harvest to begin" in capsys.readouterr().err
    after = configure("after", store=whole.store, **flags)
    train(after)
    assert bits(follows) == bits(after)


def test_shards_go_once_they_were_trained_on_and_a_stopped_run_still_resumes(begin, configure, tmp_path):
    """The harvest waits for room, the run for shards; the disk never holds more than was allowed."""
    small = 64 * 16 * 4
    harvesting = begin("small", keep_bytes=20 * small, shard_rows=64)
    flags = {"follow": True, "keep_bytes": 20 * small, "steps": 30, "checkpoint_every": 2, "holdout_rows": 128}
    config = configure("small-run", store=harvesting.store, mesh=(1, 1), **flags)
    most = 0
    with Children(tmp_path / "harvest", ["harvest", *to_flag_lines(harvesting)]) as writes:
        with Children(tmp_path / "train", ["train", *to_flag_lines(config)]) as trains:
            assert trains.until(lambda: (Path(config.workdir) / "checkpoints/8").exists(), 30), trains.output()
            trains.signal(0, signal.SIGTERM)
            assert trains.wait(30) == [75]
        with Children(tmp_path / "train", ["train", *to_flag_lines(config)]) as trains:
            while trains.processes[0].exitcode is None:
                most = max(most, len(shards_of(config)))
                time.sleep(0.02)
            assert trains.wait(60) == [0], trains.output()
            assert "resuming" in trains.output()
        assert writes.wait(30) == [0], writes.output()
    assert most <= 20 and len(shards_of(config)) <= 20
    assert {30, 31} <= set(shards_of(config))  # the rows that were held out
    whole = begin("whole", shard_rows=64)
    harvest(whole)
    alone = configure("whole-run", store=whole.store, mesh=(1, 1), **{**flags, "keep_bytes": None})
    train(alone)
    assert bits(config) == bits(alone) and len(shards_of(whole)) == 32
    store = open_store(config.store)
    assert store.complete and store.rows == 64 * len(shards_of(config))
    harvest(dataclasses.replace(harvesting, keep_bytes=None))  # does not write again what was removed
    assert len(shards_of(config)) == store.rows // 64


def test_a_run_that_waits_for_its_harvest_can_be_stopped(begin, configure, tmp_path):
    config = configure("waits", store=begin("never").store, follow=True, steps=30, mesh=(1, 1))
    with Children(tmp_path / "train", ["train", *to_flag_lines(config)]) as trains:
        assert trains.until(lambda: "waiting for the harvest to begin" in trains.output(), 30), trains.output()
        trains.signal(0, signal.SIGTERM)
        assert trains.wait(30) == [75]
    assert "stopped by SIGTERM while it waited for the harvest to begin" in trains.output()


def test_rows_come_once_and_only_from_their_window(begin):
    whole = begin("whole")
    harvest(whole)
    store = open_store(whole.store)
    batches = Batches(store, "activations", 64, seed=1, shards=Shards(store, "activations"), block_bytes=2**13)
    seen = [batches.rows_of(step) for step in range(32)]
    assert sorted(np.concatenate(seen)) == list(range(2048))
    for step, rows in enumerate(seen):
        assert set(rows // 512) == {step // 8}
        assert 512 * (step // 8) <= batches.order.lowest_row_from(step) <= np.concatenate(seen[step:]).min()
    assert not np.array_equal(np.sort(seen[0]), np.arange(64))


def test_what_cannot_be_kept_is_refused(begin, configure):
    whole = begin("whole")
    harvest(whole)
    with pytest.raises(InputError, match="--keep_bytes=5: needs --follow"):
        configure(store=whole.store, keep_bytes=5)
    with pytest.raises(InputError, match="--keep_bytes=5: a resume may need .* give at least"):
        train(configure(store=whole.store, follow=True, keep_bytes=5))
    with pytest.raises(InputError, match="read once with --keep_bytes"):
        train(configure(store=whole.store, follow=True, keep_bytes=5, steps=1000))
    store = open_store(whole.store)
    store.remove("activations", [2])
    with pytest.raises(InputError, match="shard 2 was removed by --keep_bytes, and this run needs it"):
        train(configure(store=whole.store, follow=True))
