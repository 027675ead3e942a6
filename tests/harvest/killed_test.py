"""A harvest killed at any moment and run again, by one process or two, ends with the rows of an undisturbed one."""

import dataclasses
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from jaxsae.harvest import HarvestConfig, harvest
from jaxsae.store import open_store

TOKENS = 1_000


def _harvest(config: HarvestConfig, index: int, count: int) -> None:
    """What process `index` of `count` does; slowed down, so that there is time to be killed in."""
    from jaxsae.harvest import pipeline
    from jaxsae.store import StoreWriter

    pipeline.jax.process_count, pipeline.jax.process_index = lambda: count, lambda: index
    write_rows = StoreWriter._write_rows

    def slowly(self, *args):
        time.sleep(0.05)
        write_rows(self, *args)

    StoreWriter._write_rows = slowly
    harvest(config)


@pytest.fixture(scope="module")
def server():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["jaxsae.harvest.hf", "torch", "jax"])
    return context


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_and_run_again(processes, server, make_model, configure, tmp_path):
    config = configure(make_model("gpt2"), tokens=TOKENS, shard_rows=64, sites=("embed", "resid_post.1"))
    moments = random.Random(processes)
    for attempt in range(3):
        workers = [server.Process(target=_harvest, args=(config, i, processes)) for i in range(processes)]
        for worker in workers:
            worker.start()
        wait_until(lambda n=3 * attempt + 2: written(config.store) >= n)
        time.sleep(moments.random() * 0.15)
        for worker in workers if attempt == 1 else [moments.choice(workers)]:  # all of them, or one while others go on
            os.kill(worker.pid, signal.SIGKILL)
        for worker in workers:
            worker.join()
        if processes == 1:
            assert not open_store(config.store).complete
    harvest(config)
    found, whole = open_store(config.store), harvest(dataclasses.replace(config, store=str(tmp_path / "whole")))
    assert found.complete and found.rows == TOKENS
    for site in whole.sites:
        np.testing.assert_array_equal(found.read(site, 0, TOKENS), whole.read(site, 0, TOKENS))
        assert found.metadata(site) == whole.metadata(site)
    for column in ("tokens", "sequence", "position"):
        np.testing.assert_array_equal(found.column(column, 0, TOKENS), whole.column(column, 0, TOKENS))


def written(store: str) -> int:
    shards = Path(store) / "tokens" / "c"
    return len(list(shards.iterdir())) if shards.exists() else 0


def wait_until(condition) -> None:
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end, "nothing was written within five minutes"
        time.sleep(0.01)
