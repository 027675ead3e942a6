"""A dictionary of each of several sites by one command: a run each, with the bits that it has alone."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from jaxsae.config import read_flag_file, to_flag_lines
from jaxsae.dictionary import MethodConfig
from jaxsae.errors import InputError
from jaxsae.faults.children import Children
from jaxsae.store import open_store
from jaxsae.training import TrainConfig, load, train
from jaxsae.training.checkpoint import read_metadata
from jaxsae.training.every import runs_of

ROWS = 2048
SITES = {"resid_post.0": 12, "resid_post.1": 12, "resid_post.2": 8, "mlp_in.0": 12, "mlp_out.0": 10, "mlp_in.1": 12}
SITES |= {"mlp_out.1": 12}


@pytest.fixture(scope="module")
def store(store_of):
    rng = np.random.default_rng(0)
    return store_of({site: rng.normal(size=(ROWS, d)).astype(np.float32) for site, d in SITES.items()})


@pytest.fixture
def flags(configure, store):
    """flags(run, **flags) -> TrainConfig."""

    def make(run: str, **more) -> TrainConfig:
        method = MethodConfig(width=32, k=4, aux_k=8, transcode=bool(more.get("writes")))
        return configure(run, **{"store": store, "mesh": (1, 1), "ema_decay": 0.0, "method": method} | more)

    return make


CASES = {
    "sites": {"sites": ("resid_post.*",)},
    "transcoders": {"reads": ("mlp_in.*",), "writes": ("mlp_out.*",)},
}


@pytest.mark.parametrize("name", CASES)
def test_each_has_the_bits_of_a_run_that_is_alone(name, flags, store, newest_state, assert_same, capsys):
    together = flags("set", **CASES[name])
    assert len(train(together)) == len(list(runs_of(together, open_store(store))))
    ended = {}
    for one in runs_of(together, open_store(store)):
        assert read_flag_file(Path(one.workdir) / "config.flags", TrainConfig) == one
        alone = dataclasses.replace(one, workdir=str(Path(together.workdir).with_name(Path(one.workdir).name)))
        train(alone)
        ended[one.workdir] = newest_state(one)[1]
        assert_same(ended[one.workdir], newest_state(alone)[1])
    assert len(ended) == {"sites": 3, "transcoders": 2}[name]
    # Resumed as a whole: one had ended, one had a checkpoint, of which others are further on, one had just begun.
    first, *others = ended
    shutil.rmtree(Path(others[0], "checkpoints", "12"))
    for workdir in others[1:]:
        shutil.rmtree(Path(workdir, "checkpoints"))
    train(together)
    assert f"{first} is complete" in capsys.readouterr().err
    for one in runs_of(together, open_store(store)):
        assert_same(newest_state(one)[1], ended[one.workdir])


def test_several_processes_end_with_the_bits_of_one(flags, store, tmp_path):
    """Although the saves of all come at the same steps, and Orbax makes processes meet under names that saves share."""
    given = {"sites": ("resid_post.0", "resid_post.1"), "mesh": (2, 2), "start_scale": 1.0}
    alone, several = (flags(run, **given) for run in ("alone", "several"))
    train(alone)
    with Children(tmp_path / "two", ["train", *to_flag_lines(several)], 2, 2) as two:
        assert two.wait() == [0, 0], two.output(0)
    ended = lambda one: read_metadata(Path(one.workdir) / "checkpoints")
    for one, other in zip(*(runs_of(config, open_store(store)) for config in (alone, several)), strict=True):
        (step, expected), (reached, found) = ended(one), ended(other)
        assert step == reached == 12 and found["sums"] == expected["sums"]


def test_a_stop_saves_all_of_them(flags, store, newest_state, assert_same, monkeypatch):
    from jaxsae.errors import Preempted
    from jaxsae.hosts.preemption import StopAtStep

    whole, cut = (flags(run, sites=("resid_post.*",)) for run in ("whole", "cut"))
    train(whole)
    with monkeypatch.context() as patch:
        patch.setattr(StopAtStep, "reached", lambda self, step: step == 5)
        with pytest.raises(Preempted, match="what was trained of each run"):
            train(cut)
    ones = runs_of(cut, open_store(store))
    assert [newest_state(one)[0] for one in ones] == [5] * 3
    train(cut)
    for one, other in zip(ones, runs_of(whole, open_store(store)), strict=True):
        assert_same(newest_state(one)[1], newest_state(other)[1])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sites": ("resid_pre.*",)}, "--sites=resid_pre.*: .* has .*resid_post.0"),
        ({"sites": ("resid_post.*", "resid_post.1")}, "--sites=.*: resid_post.1 is named twice"),
        ({"sites": ("resid_post.0",), "site": "resid_post.1"}, "--sites=resid_post.0: leave --site=resid_post.1 out"),
        ({"reads": ("mlp_in.*",), "writes": ("mlp_out.0",)}, "--reads=mlp_in.*: a pattern goes with one of --writes"),
        (
            {"reads": ("mlp_in.*",), "writes": ("attn_out.*",)},
            r"--writes=attn_out.\*: .*none of which goes with mlp_in.0",
        ),
        ({"sites": ("resid_post.*",), "initialize_from": "a"}, "--initialize_from=a/resid_post.0: .*no run here"),
    ],
)
def test_sites_that_do_not_do_are_refused_before_anything_is_written(given, message, flags):
    with pytest.raises(InputError, match=message):
        train(flags("set", **given))
    assert not Path(flags("set").workdir).exists()


def test_a_set_and_a_run_do_not_take_each_other_s_place(flags):
    train(flags("set", sites=("resid_post.0", "resid_post.1"), steps=2))
    with pytest.raises(InputError, match="holds runs of several sites, resid_post.0, resid_post.1. Give one"):
        load(flags("set").workdir)
    with pytest.raises(InputError, match="holds runs of several sites"):
        train(flags("set", site="resid_post.0", steps=2))
    train(flags("run", site="resid_post.0", steps=2))
    with pytest.raises(InputError, match="holds a run. Give a directory of its own"):
        train(flags("run", sites=("resid_post.0",), steps=2))


def test_flags_that_are_refused_leave_those_of_a_set_as_they_were(flags):
    begun = flags("set", sites=("resid_post.0",), steps=4)
    train(begun)
    other = dataclasses.replace(begun, method=dataclasses.replace(begun.method, k=5))
    with pytest.raises(InputError, match="another configuration"):
        train(other)
    assert read_flag_file(Path(begun.workdir) / "each.flags", TrainConfig) == begun
