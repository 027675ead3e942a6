"""Members trained side by side, stacked or not, are the runs that `jaxsae train` makes of their flag files."""

import math
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxsae.config import read_flag_file
from jaxsae.parallel import make_mesh
from jaxsae.progress import Progress
from jaxsae.store import Batches, open_store
from jaxsae.sweep.grid import make_members
from jaxsae.sweep.stack import MemberSteps
from jaxsae.sweep.together import Together
from jaxsae.training import TrainConfig, setup, train
from jaxsae.training.checkpoint import Checkpoints, read_metadata
from jaxsae.training.metrics import read_metrics
from jaxsae.training.setup import Setup

GRID = dict(width="32,64", seed="0,1", tokens="1280,1920", learning_rate="0.003,0.01", zip="tokens,learning_rate")


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    """Runs have one device, of the eight that there are."""
    shape = lambda mesh: make_mesh(mesh, jax.devices()[: math.prod(mesh)])
    monkeypatch.setattr(setup, "make_mesh", shape)


def train_together(configure, store, stack="off", steps=None, stops=lambda: False, **grid):
    """(members, {name: error or None}) of a sweep trained to its end, or until `stops()`."""
    config = configure(f"stack-{stack}", mesh="1,1", **grid)
    members, ended = make_members(config), {}
    bar = Progress(1, "test", "tok")
    end = lambda member, error: ended.__setitem__(member.name, error)
    steps = steps or MemberSteps()
    together = Together(members, open_store(store), steps, stack, 0.0, bar, lambda name: True, end)
    together.run(stops)
    return members, ended


def state_of(config: TrainConfig):
    """Step and state of a run's newest checkpoint, in NumPy arrays."""
    with Checkpoints(Path(config.workdir) / "checkpoints") as checkpoints:
        step = checkpoints.latest
        return step, jax.tree.map(np.asarray, checkpoints.restore(step, Setup.of(config).abstract))


def alone(member, tmp_path) -> TrainConfig:
    """The member's flag file, trained by itself in another directory."""
    flags = Path(member.config.workdir) / "config.flags"
    copy = tmp_path / "alone" / member.name
    (tmp_path / "alone").mkdir(exist_ok=True)
    (tmp_path / "again.flags").write_text(flags.read_text() + f"--workdir={copy}\n")
    config = read_flag_file(tmp_path / "again.flags", TrainConfig)
    train(config)
    return config


def test_members_side_by_side_have_the_bits_of_members_alone(configure, store, tmp_path, monkeypatch):
    steps, read = MemberSteps(), []
    plain = Batches.read
    monkeypatch.setattr(Batches, "read", lambda self, step, *rows: (read.append(step), plain(self, step, *rows))[1])
    members, ended = train_together(configure, store, steps=steps, **GRID)
    assert len(members) == 8 and all(ended[m.name] is None for m in members)
    assert len(steps._found) == 2  # one program for each width, whatever seed, rate and length
    assert len(read) == len(set(read)) and set(range(30)) <= set(read)  # each batch once, for all
    for member in members[1::3]:
        config = alone(member, tmp_path)
        (step, found), (expected_step, expected) = state_of(member.config), state_of(config)
        assert step == expected_step == member.config.steps
        jax.tree.map(np.testing.assert_array_equal, found, expected)
    different = state_of(members[0].config)[1].params.W_dec - state_of(members[4].config)[1].params.W_dec
    assert np.abs(different).max() > 0.1  # seeds differ


def test_stacked_members_are_members_alone_to_rounding(configure, store, tmp_path):
    steps = MemberSteps()
    members, ended = train_together(
        configure, store, "on", steps, seed="0,1,2", learning_rate="0.003", checkpoint_every=7
    )
    assert all(error is None for error in ended.values()) and next(iter(steps._stacked))[1] == 3
    for member in members:
        found, expected = state_of(member.config)[1], state_of(alone(member, tmp_path))[1]
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        assert found.step == 20
        lines = read_metrics(Path(member.config.workdir) / "metrics.jsonl")
        # A checkpoint, at 7 or 14 where one was due in time, has a line of its own.
        assert [line["step"] for line in lines if not line["step"] % 5] == [5, 10, 15, 20]
        assert "held_out_fvu" in lines[-1]


def test_a_member_that_fails_leaves_its_stack_and_the_others_go_on(configure, store, tmp_path):
    grid = dict(seed="0,1", learning_rate="0.003,1e30", zip="seed,learning_rate", warmup_fraction=0)
    for how in ("on", "off"):
        members, ended = train_together(configure, store, how, **grid)
        good, bad = members
        assert ended[good.name] is None and "loss is not finite" in str(ended[bad.name])
        found, expected = state_of(good.config)[1], state_of(alone(good, tmp_path))[1]
        np.testing.assert_allclose(found.params.W_dec, expected.params.W_dec, atol=1e-5)


def test_members_that_stopped_at_different_steps_go_on_to_the_same_bits(configure, store, tmp_path):
    grid = dict(seed="0,1", checkpoint_every=1)
    asked = iter([False] * 8 + [True])
    members, ended = train_together(configure, store, stops=lambda: next(asked), **grid)
    assert not ended and {read_metadata(Path(m.config.workdir) / "checkpoints")[0] for m in members} == {9}
    ahead = members[0].config
    train(ahead)  # by itself to the end; the other is still at step 9
    members, ended = train_together(configure, store, **grid)
    assert set(ended) == {m.name for m in members}
    for member in members:
        found, expected = state_of(member.config), state_of(alone(member, tmp_path))
        assert found[0] == expected[0] == 20
        jax.tree.map(np.testing.assert_array_equal, found[1], expected[1])
