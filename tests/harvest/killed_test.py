"""A harvest killed at any moment and run again, by one process or two, ends with the rows of an undisturbed one."""

import dataclasses
import multiprocessing
import random
import time
from multiprocessing import forkserver
from pathlib import Path
from signal import SIGKILL

import numpy as np
import pytest

from jaxsae.config import to_flag_lines
from jaxsae.faults import children
from jaxsae.faults.children import Children
from jaxsae.harvest import harvest
from jaxsae.store import open_store

TOKENS = 1_000

# Slowed down, so that there is time to be killed in.
SLOWLY = """
import sys, time
from jaxsae import cli
from jaxsae.store import StoreWriter

write_rows = StoreWriter._write_rows

def slowly(self, *args):
    time.sleep(0.05)
    write_rows(self, *args)

StoreWriter._write_rows = slowly
sys.exit(cli.run(sys.argv[1:]))
"""


@pytest.fixture(scope="module", autouse=True)
def preloaded():
    """Processes that have torch from the start, where this test is the first to start any."""
    more = ["jaxsae.harvest.hf", "torch"]
    multiprocessing.get_context("forkserver").set_forkserver_preload([*children.PRELOADED, *more])
    forkserver.ensure_running()


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_three_times_and_run_again(processes, make_model, configure, tmp_path):
    config = configure(make_model("gpt2"), tokens=TOKENS, shard_rows=32, sites=("embed", "resid_post.1"))
    script = tmp_path / "slowly.py"
    script.write_text(SLOWLY)
    command = [str(script), "harvest", *to_flag_lines(config)]
    moments = random.Random(processes)
    for attempt, victims in enumerate(([processes - 1], range(processes), [0])):
        wanted = written(config.store) + 2
        with Children(tmp_path / f"start{attempt}", command, processes, peer_timeout=3) as run:
            assert run.until(lambda n=wanted: written(config.store) >= n), run.output()
            time.sleep(moments.random() * 0.15)
            for victim in victims:
                run.signal(victim, SIGKILL)
            statuses = run.wait(60)
        assert all(statuses[victim] == -SIGKILL for victim in victims)
        assert None not in statuses and 0 not in statuses, run.output()  # the others do not go on alone, nor hang
        assert not open_store(config.store).complete
    with Children(tmp_path / "last", ["harvest", *to_flag_lines(config)], processes) as run:
        assert run.wait() == [0] * processes, run.output()
        assert "continuing" in run.output()
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
