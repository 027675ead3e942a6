"""A run of several processes is the run of one, bit for bit, however often it is stopped and by what."""

import random
import signal
import socket
import subprocess
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxsae.config import to_flag_lines
from jaxsae.faults.children import Children
from jaxsae.faults.damage import last_step
from jaxsae.training import setup, train
from jaxsae.training.checkpoint import read_metadata

LONG = {"steps": 80, "checkpoint_every": 20, "log_every": 1, "mesh": (2, 2)}


def start(config, tmp_path, name, **options):
    return Children(tmp_path / name, ["train", *to_flag_lines(config)], **options)


def has_step(config, step):
    return lambda: (Path(config.workdir) / "checkpoints" / str(step)).exists()


def has_logged(config, step):
    return lambda: last_step(Path(config.workdir)) >= step


def bits(config):
    """The newest step, and the sums of all arrays' bits that its checkpoint was sealed with."""
    step, metadata = read_metadata(Path(config.workdir) / "checkpoints")
    return step, metadata["sums"]


# A run that also writes down, for each piece of a batch that it reads, the numbers that it got.
LOGGED = """
import os, sys
from jaxsae import cli
from jaxsae.store import Batches

log, read = open(f"{sys.argv[1]}-{os.getpid()}", "a", 1), Batches.read

def logged(self, step, start=0, stop=None):
    x = read(self, step, start, stop)
    log.write(f"{step} {start} " + " ".join(row.tobytes().hex() for row in x) + "\\n")
    return x

Batches.read = logged
sys.exit(cli.run(sys.argv[2:]))
"""


def rows_read(log, rows):
    """Step -> sorted (place in the batch, row of the store) of what the processes of one start have read."""
    of, found = {row.tobytes().hex(): number for number, row in enumerate(rows)}, {}
    for file in log.parent.glob(f"{log.name}-*"):
        for line in file.read_text().splitlines(keepends=True):
            if line.endswith("\n"):  # the last one may be cut by the kill
                step, start, *read = line.split()
                found.setdefault(int(step), set()).update((int(start) + n, of[x]) for n, x in enumerate(read))
    return {step: sorted(places) for step, places in found.items()}


def test_killed_three_times_and_resumed_as_2_1_and_4_processes_it_ends_with_the_bits_of_one_left_alone(
    configure, metrics, rows, tmp_path
):
    config, alone = configure("disturbed", **LONG), configure("alone", **LONG)
    script = tmp_path / "logged.py"
    script.write_text(LOGGED)
    trained, reached = {}, 0
    for number, (count, victim) in enumerate(((2, 1), (1, 0), (4, 2), (4, None))):
        log = tmp_path / f"rows-{number}"
        command = [str(script), str(log), "train", *to_flag_lines(config)]
        with Children(tmp_path / f"start-{number}", command, count, 4 // count) as run:
            if victim is None:
                assert run.wait() == [0] * count, run.output(0)
                assert "resuming" not in run.output(1)  # the others write to files
            else:
                at = reached + 20 + random.Random(time.time_ns()).randrange(5)  # steps
                assert run.until(has_step(config, reached + 20))
                assert run.until(has_logged(config, at))
                run.signal(victim, signal.SIGKILL)
                assert run.wait(60) == [-signal.SIGKILL if n == victim else 1 for n in range(count)], run.output(0)
                assert count == 1 or "another process has gone" in run.output(0) or f"process {victim}" in run.output(0)
            assert (f"resuming {config.workdir} at step {reached}" in run.output(0)) == (number > 0)
        before, reached = reached, bits(config)[0]
        assert before + 20 <= reached and last_step(Path(config.workdir)) - reached <= 21
        read = rows_read(log, rows)
        trained |= {step: read[step] for step in range(before, reached)}
    for process in (1, 2, 3):
        assert "resuming" in (Path(config.workdir) / f"logs/process-{process}.log").read_text()
    train(alone)
    assert bits(config) == bits(alone) and bits(alone)[0] == 80
    assert [line["step"] for line in metrics(config)] == list(range(1, 81))
    assert metrics(config) == metrics(alone)
    assert [[place for place, _ in trained[step]] for step in range(80)] == [list(range(64))] * 80
    batches = setup.Setup.of(alone).batches  # without the rows that are held out
    for step in range(80):
        assert [row for _, row in trained[step]] == list(batches.rows_of(step))
    for first in range(0, 80, batches.steps_per_epoch):
        steps = range(first, min(first + batches.steps_per_epoch, 80))
        read = [row for step in steps for _, row in trained[step]]
        assert len(set(read)) == len(read) == 64 * len(steps)


def test_two_processes_have_the_bits_of_one_and_other_meshes_the_same_numbers(configure, newest_state, tmp_path):
    steps = {"steps": 60, "checkpoint_every": 60}
    two, one = configure("two", mesh=(2, 2), **steps), configure("one", mesh=(2, 2), **steps)
    with start(two, tmp_path, "started", count=2, devices=2) as run:
        assert run.wait() == [0, 0], run.output(0)
    train(one)
    assert bits(two) == bits(one)
    expected = newest_state(one)[1].params
    for mesh in ((1, 1), (4, 1), (1, 4)):
        other = configure(f"mesh-{mesh}", mesh=mesh, **steps)
        train(other)
        found = newest_state(other)[1].params
        for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
            assert np.abs(a - b).max() <= 1e-5 * np.abs(a).max()


# Process 1 has another file system where the run is to lie, as a host has that does not share it.
APART = """
import ctypes, os, subprocess, sys
from jaxsae import cli

if "--process_id=1" in sys.argv:
    if ctypes.CDLL(None).unshare(0x20000):  # a mount namespace of its own
        sys.exit(77)
    for command in (["--make-rprivate", "/"], ["-t", "tmpfs", "tmpfs", sys.argv[1]]):
        if subprocess.run(["mount", *command], capture_output=True).returncode:
            sys.exit(77)
sys.exit(cli.run(sys.argv[2:]))
"""


def test_a_workdir_that_the_hosts_do_not_share_is_told(configure, tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    config, script = configure(workdir=str(place / "run"), **LONG), tmp_path / "apart.py"
    script.write_text(APART)
    with Children(tmp_path / "two", [str(script), str(place), "train", *to_flag_lines(config)], 2, 2) as two:
        found = two.wait(60)
        if 77 in found:
            pytest.skip("a mount namespace is not permitted here")
        assert found == [2, 2], two.output(0)
    said = f"--workdir={place / 'run'}: {socket.gethostname()} does not see what process 0 has just written there"
    assert said in two.output(0) and said in two.output(1) and "under the same path" in two.output(1)


def test_a_disk_that_fills_ends_both_processes_with_one_message_and_older_checkpoints_stay(configure, tmp_path):
    """Each process fails in another array: in Orbax one waits for what the other will not write."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1600k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    try:
        config = configure(workdir=str(small / "run"), mesh=(2, 2), width=1024, steps=40, keep_checkpoints=20)
        with start(config, tmp_path, "two", count=2, devices=2, peer_timeout=15) as two:
            assert two.wait(60) == [2, 2], two.output(0)
            for said in (two.output(0), two.output(1)):
                assert said.count("the disk is full") == 1 and "Traceback" not in said and "closed" not in said
        assert bits(config)[0] % 4 == 0
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


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
