"""A run that is given more tokens is the run of its flag file from nothing, however often it was killed on the way."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from training.longer import BATCH, LINE, STEPS, bits, from_nothing, killed, more, saved

from jaxsae import cli
from jaxsae.config import read_flag_file, to_flag_lines
from jaxsae.dictionary import MethodConfig
from jaxsae.errors import InputError
from jaxsae.faults.children import Children
from jaxsae.inspect import describe_run
from jaxsae.training import OptimizerConfig, TrainConfig, load, more_tokens, train
from jaxsae.training.checkpoint import Checkpoints, read_metadata
from jaxsae.training.kept import Kept
from jaxsae.training.optimizer import schedule, steps_before_fall


@pytest.mark.parametrize("architecture", ["topk", "gated"])
def test_more_tokens_give_the_bits_of_the_flag_file_from_nothing(
    architecture, configure, newest_state, metrics, assert_same, capsys
):
    """The rate is a default that depends on steps; gated has a warm-up of its penalty besides."""
    flags = {"steps": 120, "checkpoint_every": 30, "learning_rate": None}
    if architecture == "gated":
        flags |= {"method": MethodConfig(width=64, architecture="gated", l1_warmup=0.9), "mesh": (1, 1)}
    config = configure(**flags)
    train(config)
    assert saved(config) == [90, 96, 120]
    longer = more(config, 240)
    train(longer)
    said = capsys.readouterr().err
    assert (
        "15360 tokens instead of 7680. It goes on from step 96, the newest checkpoint from before its rate fell."
        in said
    )
    assert "stay those of --first_tokens=7680" in said
    again = from_nothing(longer)
    (step, state), (_, expected) = newest_state(longer), newest_state(again)
    assert step == 240
    assert_same(state, expected)
    assert metrics(longer) == metrics(again)
    assert [line["step"] for line in metrics(longer)] == list(range(1, 241))
    assert saved(longer) == [192, 210, 240] == saved(again)
    rates = [line["learning_rate"] for line in metrics(longer)]
    assert rates[4] < rates[5] == rates[192] == max(rates) > rates[193]
    other = dataclasses.replace(longer, workdir=f"{longer.workdir}-other")  # without --first_tokens
    train(other)
    assert bits(other) != bits(longer)
    metadata = read_metadata(Path(longer.workdir, "checkpoints"))[1]["dictionary"]
    summary = json.loads(Path(longer.workdir, "run.json").read_text())
    for about in (metadata, summary):
        assert about["tokens"] == 240 * BATCH and about["first_tokens"] == 120 * BATCH
    assert summary["learning_rate"] == pytest.approx(max(rates), rel=1e-6)


def test_the_flag_file_tells_the_story(complete, capsys):
    config = complete()
    flags = Path(config.workdir, "config.flags")
    flags.write_text(flags.read_text().replace("--seed", "# mine\n--seed"))
    longer, longest = more(config, 2 * STEPS), more(config, 3 * STEPS)
    assert cli.run(["train", *to_flag_lines(longer)]) == 0
    assert cli.run(["train", f"--flagfile={flags}"]) == 0  # as the head says
    assert "is complete: 40 steps" in capsys.readouterr().err
    train(dataclasses.replace(longest, log_every=3))
    comments = [line for line in flags.read_text().splitlines() if line.startswith("#")]
    assert comments[0] == f"# jaxsae train --flagfile={flags}" and comments[1] == "# mine" and len(comments) == 4
    when = r"# \d{4}-\d\d-\d\d \d\d:\d\d UTC: "
    assert re.fullmatch(when + "--tokens=1280 became --tokens=2560, from step 16 of 20 on", comments[2])
    assert re.fullmatch(when + "--tokens=2560 became --tokens=3840, from step 32 of 40 on", comments[3])
    written = read_flag_file(flags, TrainConfig)
    assert written == dataclasses.replace(longest, log_every=3, first_tokens=STEPS * BATCH)
    assert bits(longest) == bits(from_nothing(longest))
    train(longest)
    assert "is complete: 60 steps" in capsys.readouterr().err
    assert "step      60" in describe_run(Path(longest.workdir))


MOMENTS = {
    "before the flags": ({"owner": more_tokens, "name": "write_flag_file"}, [12, 16, 20], STEPS),
    "after the flags": ({"owner": more_tokens, "name": "write_flag_file", "after": True}, [12, 16, 20], 2 * STEPS),
    "in a removal": ({"owner": shutil, "name": "rmtree"}, [12, 16], 2 * STEPS),
    "after the removal": ({"owner": Checkpoints, "name": "reload"}, [12, 16], 2 * STEPS),
    "at the first line": (LINE, [12, 16], 2 * STEPS),
    "before its first checkpoint": ({**LINE, "when": lambda log, line: line["step"] == 19}, [12, 16], 2 * STEPS),
    "in the new fall": ({**LINE, "when": lambda log, line: line["step"] == 38}, [28, 32, 36], 2 * STEPS),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_leaves_the_run_as_it_was_or_one_that_goes_on(moment, complete, made, metrics, monkeypatch):
    how, left, steps = MOMENTS[moment]
    config = complete()
    before, done = metrics(config), bits(config)
    Path(config.workdir, "eval").mkdir()
    Path(config.workdir, "eval/splice.json").write_text("{}")
    longer = more(config, 2 * STEPS)
    killed(longer, monkeypatch, **how)
    assert saved(config) == left
    assert read_flag_file(Path(config.workdir, "config.flags"), TrainConfig).steps == steps
    if 20 in left:  # nothing is lost, and the run of before is still there for the asking
        assert metrics(config) == before
        copy = dataclasses.replace(config, workdir=f"{config.workdir}-copy")
        shutil.copytree(config.workdir, copy.workdir)
        train(copy)
        assert bits(copy) == done and metrics(copy) == before
        assert read_flag_file(Path(copy.workdir, "config.flags"), TrainConfig).steps == STEPS
    train(longer)
    assert bits(longer) == made(40)[1] and bits(longer)[0] == 40
    assert [line["step"] for line in metrics(longer)] == list(range(1, 41))
    assert Path(longer.workdir, "config.flags").read_text().count("became") == 1
    assert [path.parent.name for path in Path(longer.workdir).rglob("splice.json")] == ["eval-of-step-20"]


def test_a_run_that_was_stopped_goes_on_with_more_from_where_it_was(short, made, metrics, monkeypatch, capsys):
    """Before its rate fell nothing is taken back; after, what was made at falling rates."""
    for at, goes_on in ((11, 8), (18, 16)):
        config = short(f"stopped-{at}", steps=STEPS)
        killed(config, monkeypatch, **{**LINE, "when": lambda log, line, at=at: line["step"] == at})
        longer = more(config, 30)
        train(longer)
        assert f"at step {goes_on} of 30" in capsys.readouterr().err
        assert bits(longer) == made(30)[1]
        assert len(metrics(longer)) == 30


def test_without_a_checkpoint_there_is_nothing_to_go_on_from_and_it_begins_anew(short, monkeypatch):
    config = short(steps=STEPS)
    killed(config, monkeypatch, **{**LINE, "when": lambda log, line: line["step"] == 2})
    longer = more(config, 30)
    train(longer)
    fresh = dataclasses.replace(longer, workdir=f"{longer.workdir}-fresh")
    train(fresh)
    assert bits(longer) == bits(fresh)
    assert "first_tokens" not in Path(longer.workdir, "config.flags").read_text()


def test_the_checkpoint_from_before_the_fall_stays_whatever_the_others(short, made):
    for keep, left in ((1, [16, 20]), (2, [16, 18, 20]), (9, [2, 4, 6, 8, 10, 12, 14, 16, 18, 20])):
        config = short(str(keep), steps=STEPS, checkpoint_every=2, keep_checkpoints=keep)
        train(config)
        assert saved(config) == left
    longer = more(short("1", checkpoint_every=2, keep_checkpoints=1), 40)
    train(longer)
    assert saved(longer) == [32, 40] and bits(longer) == made(40)[1]


def test_a_rate_that_does_not_fall_goes_on_from_the_last_step(short, capsys):
    level = short(steps=STEPS, optimization=OptimizerConfig(learning_rate=3e-3, decay_fraction=0))
    train(level)
    assert saved(level) == [16, 20]  # the two newest
    train(more(level, 30))
    assert "at step 20 of 30" in capsys.readouterr().err
    assert bits(more(level, 30)) == bits(from_nothing(more(level, 30)))


def test_of_checkpoints_the_newest_stay_and_the_last_before_the_fall():
    steps = lambda *numbers: [dataclasses.make_dataclass("Saved", ["step"])(n) for n in numbers]
    stay = lambda kept, *numbers: [
        n for n, s in zip(numbers, kept.should_preserve(steps(*numbers), context=None), strict=True) if s
    ]
    assert stay(Kept(2, 16), 8, 12, 16) == [12, 16]
    assert stay(Kept(2, 16), 8, 12, 16, 18, 20, 22) == [16, 20, 22]
    assert stay(Kept(1, 15), 12, 13, 16, 20) == [13, 20]
    assert stay(Kept(1, 5), 12, 13) == [13] == stay(Kept(1), 12, 13)
    assert stay(Kept(3, 5)) == []


def test_an_older_run_goes_on_from_the_newest_checkpoint_there_is_before_the_fall(complete, made, capsys):
    config = complete()
    shutil.rmtree(Path(config.workdir, "checkpoints/16"))
    longer = more(config, 40)
    train(longer)
    said = capsys.readouterr().err
    assert "It goes on from step 12, the newest checkpoint from before its rate fell; there is none of step 16" in said
    assert bits(longer) == made(40)[1]


def test_several_processes_agree_on_where_to_go_on(configure, metrics, tmp_path):
    config = configure(steps=STEPS, mesh=(2, 2))
    train(config)
    longer = more(config, 40)
    with Children(tmp_path / "output", ["train", *to_flag_lines(longer)], 2, 2) as children:
        assert children.wait() == [0, 0], children.output()
        assert "It goes on from step 16" in children.output()
    assert bits(longer) == bits(from_nothing(longer)) and len(metrics(longer)) == 40
    assert saved(longer) == [32, 36, 40]


def test_a_run_that_was_stopped_may_end_earlier_where_no_step_of_it_was_in_the_new_fall(short, metrics, monkeypatch):
    cut = short(steps=40)
    killed(cut, monkeypatch, **{**LINE, "when": lambda log, line: line["step"] == 23})
    shorter = more(cut, 25)
    train(shorter)
    assert len(metrics(shorter)) == 25 and load(shorter.workdir).metadata["step"] == 25
    assert bits(shorter) == bits(from_nothing(shorter))
    with pytest.raises(InputError, match="Give --tokens=1600 or more"):
        train(more(cut, 24))


def test_the_rates_of_a_run_before_its_fall_do_not_depend_on_its_end():
    config = OptimizerConfig(warmup_fraction=0.1, decay_fraction=0.3)
    for first in (7, 20, 33):
        rates = {}
        for steps in range(first, 3 * first):
            made = schedule(config, 1.0, steps, first)
            rates[steps] = [float(made(np.int32(step))) for step in range(steps)]
            assert steps_before_fall(config, steps) >= steps_before_fall(config, steps - 1)
            kept = steps_before_fall(config, first)
            assert rates[steps][:kept] == rates[first][:kept]
            full = steps_before_fall(config, steps)
            assert min(rates[steps][full + 1 :], default=0) < 1 == rates[steps][full - 1]
    made = schedule(config, 1.0, 40, 20)
    assert [float(made.progress(np.int32(s))) for s in (0, 5, 20, 39)] == [0, 0.25, 1, 1]
    assert int(schedule(config, 1.0, 40).first_steps) == 40
