"""A run of several processes is the run of one, bit for bit, however often it is stopped and by what."""

import json
import signal
import time
from pathlib import Path

import numpy as np

from jaxsae.config import to_flag_lines
from jaxsae.faults.children import Children
from jaxsae.store import Batches, open_store
from jaxsae.training import train
from jaxsae.training.checkpoint import read_metadata

LONG = {"steps": 80, "checkpoint_every": 20, "log_every": 1, "mesh": (2, 2)}


def start(config, tmp_path, name, **options):
    return Children(tmp_path / name, ["train", *to_flag_lines(config)], **options)


def has_step(config, step):
    return lambda: (Path(config.workdir) / "checkpoints" / str(step)).exists()


def bits(config):
    """The newest step, and the sums of all arrays' bits that its checkpoint was sealed with."""
    step, metadata = read_metadata(Path(config.workdir) / "checkpoints")
    return step, metadata["sums"]


def test_killed_stopped_and_resumed_as_2_1_and_4_processes_it_ends_with_the_bits_of_one_left_alone(
    configure, metrics, tmp_path
):
    config, alone = configure("disturbed", **LONG), configure("alone", **LONG)
    with start(config, tmp_path, "two", count=2, devices=2) as two:
        assert two.until(has_step(config, 20))
        two.signal(1, signal.SIGKILL)
        assert two.wait(30)[1] == -signal.SIGKILL and two.processes[0].exitcode == 1
        assert "another process has gone" in two.output(0) or "process 1" in two.output(0)
    killed_at = bits(config)[0]
    assert 20 <= killed_at < 80 and metrics(config)[-1]["step"] - killed_at <= 21
    with start(config, tmp_path, "one", count=1, devices=4) as one:
        assert one.until(has_step(config, killed_at + 20))
        one.signal(0, signal.SIGTERM)
        assert one.wait(30) == [75]
        assert "stopped by SIGTERM" in one.output(0) and "Start the same command again" in one.output(0)
    stopped_at = bits(config)[0]
    with start(config, tmp_path, "four", count=4, devices=1) as four:
        assert four.wait() == [0] * 4, four.output(0)
        assert f"resuming {config.workdir} at step {stopped_at}" in four.output(0)
        assert "resuming" not in four.output(1)  # the others write to files
    for process in (1, 2, 3):
        assert "resuming" in (Path(config.workdir) / f"logs/process-{process}.log").read_text()
    train(alone)
    assert bits(config) == bits(alone) and bits(alone)[0] == 80
    assert [line["step"] for line in metrics(config)] == list(range(1, 81))
    assert metrics(config) == metrics(alone)


def test_sigterm_to_one_of_two_makes_both_save_the_same_step(configure, tmp_path):
    config = configure("stopped", **{**LONG, "steps": 100_000, "checkpoint_every": 50_000})
    with start(config, tmp_path, "two", count=2, devices=2) as two:
        assert two.until(
            lambda: '"step"' in (p.read_text() if (p := Path(config.workdir, "metrics.jsonl")).exists() else "")
        )
        two.signal(1, signal.SIGTERM)
        assert two.wait(60) == [75, 75], two.output(0)
    assert 0 < bits(config)[0] < 50_000
    assert f"step {bits(config)[0]} of 100000 is saved" in two.output(0)


def test_a_hung_process_ends_the_others_within_the_time_that_was_set(configure, tmp_path):
    config = configure("hung", **{**LONG, "steps": 100_000, "checkpoint_every": 50_000})
    with start(config, tmp_path, "two", count=2, devices=2, peer_timeout=3) as two:
        assert two.until(
            lambda: '"step"' in (p.read_text() if (p := Path(config.workdir, "metrics.jsonl")).exists() else "")
        )
        two.signal(1, signal.SIGSTOP)
        began = time.monotonic()
        two.processes[0].join(20)
        assert two.processes[0].exitcode == 1
        assert time.monotonic() - began < 10
        assert "process 1" in two.output(0) and "has not been heard of for 3 s (--peer_timeout)" in two.output(0)


def test_processes_with_different_flags_or_stores_are_refused(configure, tmp_path):
    config = configure("differ", **LONG)
    with start(config, tmp_path, "two", count=2, each=lambda n: [f"--seed={n}"], devices=2) as two:
        assert two.wait(60) == [2, 2]
    assert "process 1 has --seed = 1, and process 0 has 0: the processes of a run must agree" in two.output(0)
    assert not Path(config.workdir).exists()


READ = """
import json, sys
from pathlib import Path
import jax, numpy as np
from jaxsae.parallel import batch_sharding, make_mesh
from jaxsae.processes import JoinConfig, joined
from jaxsae.faults.children import Children
from jaxsae.store import Batches, loader, local_batch, open_store

url, out, mesh, *flags = sys.argv[1:]
given = dict(f[2:].split("=") for f in flags)
number = int(given.get("process_id", 0))
join = JoinConfig(coordinator=given["coordinator"], num_processes=int(given["num_processes"]), process_id=number)
with joined(join, "test"):
    batches = Batches(open_store(url), "activations", 64, seed=3, block_bytes=2**13)
    sharding = batch_sharding(make_mesh(json.loads(mesh)))
    held = {}
    for step in range(32):
        x = local_batch(batches, step, sharding)
        for shard in x.addressable_shards:
            held[f"{step} {shard.index[0].start or 0}"] = np.asarray(shard.data)
    held["ranges"] = np.asarray(loader.local_rows(sharding, (64, 16)))
    np.savez(Path(out) / f"{number}.npz", **held)
"""


def test_batches_of_2_and_4_processes_are_those_of_one_and_each_reads_only_its_rows(store, tmp_path):
    batches = Batches(open_store(store), "activations", 64, seed=3, block_bytes=2**13)
    script = tmp_path / "read.py"
    script.write_text(READ)
    for count, devices, mesh, rows in ((2, 2, [4, 1], 32), (4, 1, [4, 1], 16), (2, 2, [1, 4], 64)):
        out = tmp_path / f"{count}-{mesh[0]}"
        with Children(out, [str(script), store, str(out), json.dumps(mesh)], count, devices) as run:
            assert run.wait(60) == [0] * count, run.output(0)
        for number in range(count):
            held = dict(np.load(out / f"{number}.npz"))
            first, last = held.pop("ranges")[0]
            assert last - first == rows and first == (number * rows) % 64
            for key, x in held.items():
                step, start = map(int, key.split())
                np.testing.assert_array_equal(x, batches[step][start : start + len(x)])


def test_an_epoch_reads_each_row_once_however_it_is_cut_by_resumes(store):
    seen = []
    for first, last in ((0, 11), (11, 12), (12, 32)):  # fresh `Batches`, as each resume has
        batches = Batches(open_store(store), "activations", 64, seed=3, block_bytes=2**13)
        seen += [row for step in range(first, last) for row in batches.rows_of(step)]
    assert sorted(seen) == list(range(2048))
