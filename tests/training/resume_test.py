"""A run that was stopped, however and whenever, ends as one that was not; the mesh does not matter."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxsae import cli
from jaxsae.config import to_flag_lines
from jaxsae.parallel import batch_sharding, make_mesh
from jaxsae.store import Batches, local_batch, open_store
from jaxsae.training import live_run, train
from jaxsae.training.checkpoint import Checkpoints
from jaxsae.training.setup import Setup

LONG = {"steps": 600, "checkpoint_every": 25, "log_every": 5}


def flags_of(config):
    return ["train", *to_flag_lines(config)]


def kill_at_random(config):
    """Starts the run in a process of its own, and kills that at some time after its first checkpoint."""
    child = subprocess.Popen([sys.executable, "-m", "jaxsae", *flags_of(config)], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list(Path(config.workdir, "checkpoints").glob("[0-9]*")):
        assert child.poll() is None and time.monotonic() < deadline, child.stderr.read().decode()
        time.sleep(0.01)
    time.sleep(random.uniform(0, 0.3))
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL


def test_a_killed_run_ends_bit_identical_to_one_left_alone(configure, newest_state, metrics, assert_same):
    killed, alone = configure("killed", **LONG), configure("alone", **LONG)
    kill_at_random(killed)
    assert metrics(killed)[-1]["step"] < 600
    assert cli.run(flags_of(killed)) == 0
    train(alone)
    (step, state), (_, expected) = newest_state(killed), newest_state(alone)
    assert step == 600
    assert_same(state, expected)
    assert [line["step"] for line in metrics(killed)] == list(range(5, 601, 5))
    assert metrics(killed) == metrics(alone)
    assert any(line["dead_fraction"] > 0 for line in metrics(alone))  # the auxiliary loss was at work


def interrupt(config, at, monkeypatch):
    """Trains until the line of step `at` is written."""
    write = live_run.MetricsLog.write

    def stop(log, figures):
        write(log, figures)
        if figures["step"] == at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(live_run.MetricsLog, "write", stop)
        train(config)


def test_a_run_interrupted_again_and_again_ends_as_one_left_alone(
    configure, newest_state, metrics, assert_same, monkeypatch
):
    config, alone = configure("interrupted"), configure("alone")
    for at, saved in ((3, None), (4, None), (7, 4), (12, 10)):
        interrupt(config, at, monkeypatch)
        with Checkpoints(Path(config.workdir) / "checkpoints") as checkpoints:
            assert checkpoints.latest == saved
    train(config)
    train(alone)
    assert_same(newest_state(config)[1], newest_state(alone)[1])
    assert metrics(config) == metrics(alone) and len(metrics(config)) == 12


def test_a_finished_run_is_left_as_it_is(configure, newest_state, metrics, assert_same, capsys):
    config = configure()
    first = train(config)
    before = newest_state(config), metrics(config)
    again = train(config)
    assert "is complete: 12 steps" in capsys.readouterr().err
    assert_same(newest_state(config)[1], before[0][1])
    assert metrics(config) == before[1]
    np.testing.assert_array_equal(first.params.W_dec, again.params.W_dec)


def test_losses_do_not_depend_on_the_mesh(configure, metrics):
    losses = {}
    for mesh in ((1, 1), (2, 4), (4, 2)):
        config = configure(str(mesh), steps=40, mesh=mesh, checkpoint_every=100)
        train(config)
        losses[mesh] = [line["loss"] for line in metrics(config)]
    for mesh in ((2, 4), (4, 2)):
        np.testing.assert_allclose(losses[mesh], losses[1, 1], rtol=1e-5)
    assert losses[1, 1][-1] < 0.8 * losses[1, 1][0]


def test_rows_stored_in_bfloat16_train_as_their_float32_numbers(configure, own_store, rows, newest_state, assert_same):
    import ml_dtypes

    halved = rows.astype(ml_dtypes.bfloat16).astype(np.float32)
    states = []
    for dtype in ("float32", "bfloat16"):
        config = configure(dtype, steps=3, store=own_store(halved, dtype))
        train(config)
        states.append(newest_state(config))
    assert_same(*states)


def test_batches_do_not_depend_on_the_mesh(store):
    batches = Batches(open_store(store), "activations", 64, seed=3)
    for shape in ((1, 1), (2, 4), (4, 2)):
        mesh = make_mesh(shape, jax.devices()[: shape[0] * shape[1]])
        for step in (0, 17, 1000):
            np.testing.assert_array_equal(local_batch(batches, step, batch_sharding(mesh)), batches[step])


@pytest.mark.parametrize("mesh", [(1, 8), (1, 1)])
def test_a_checkpoint_moves_to_another_mesh(mesh, configure, newest_state, metrics, assert_same):
    config = configure()
    train(config)
    moved = configure(mesh=mesh)
    assert_same(newest_state(moved)[1], newest_state(config)[1])
    with Checkpoints(Path(config.workdir) / "checkpoints") as checkpoints:
        abstract = Setup.of(moved).abstract
        state = checkpoints.restore(8, abstract)
        assert jax.tree.all(jax.tree.map(lambda a, b: a.sharding == b.sharding, state, abstract))
        assert state.params.W_enc.sharding.shard_shape(state.params.W_enc.shape)[0] == 64 // mesh[1]


def test_a_run_goes_on_where_another_mesh_left_it(configure, metrics, monkeypatch):
    moved, alone = configure(mesh=(1, 8)), configure("alone")
    interrupt(configure(), 6, monkeypatch)
    train(moved)
    train(alone)
    found, expected = metrics(moved), metrics(alone)
    assert [line["step"] for line in found] == list(range(1, 13))
    np.testing.assert_allclose([m["loss"] for m in found], [m["loss"] for m in expected], rtol=1e-5)


def test_bfloat16_moments_are_the_same_on_every_device(configure, newest_state):
    config = configure(optimizer="adam_bf16")
    train(config)
    assert newest_state(config)[0] == 12  # what devices hold in common would fail its checksum if it differed


def test_a_store_that_was_moved_or_has_another_name_goes_on(configure, own_store, rows, tmp_path, capsys):
    url = own_store()
    config = configure("run", steps=4, store=url)
    trained = train(config)
    Path(url).rename(tmp_path / "moved")
    Path(tmp_path, "link").symlink_to(tmp_path / "moved")
    for place in ("moved", "link"):
        again = train(configure("run", steps=4, store=str(tmp_path / place)))
        np.testing.assert_array_equal(again.params.W_dec, trained.params.W_dec)
    own_store(rows + 1)
    capsys.readouterr()
    assert cli.run(["train", *to_flag_lines(configure("run", steps=4, store=url))]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("jaxsae train: ")]
    assert len(said) == 1 and "is another store" in said[0]
