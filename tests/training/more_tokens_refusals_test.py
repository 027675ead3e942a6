"""More tokens, or fewer, that a run cannot be gone on with: it says why and what to do, and stays as it was."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from training.longer import LINE, STEPS, bits, killed, more, refused, saved

from jaxsae.errors import InputError
from jaxsae.store import Batches
from jaxsae.training import train
from jaxsae.training.optimizer import steps_before_fall


def test_an_older_run_without_any_is_refused_and_told_what_to_do(complete):
    config = complete()
    for step in (12, 16):
        shutil.rmtree(Path(config.workdir, f"checkpoints/{step}"))
    said = refused(more(config, 40), "has no checkpoint from before its rate began to fall, at step 16")
    assert "--tokens=2560" in said and "(there are: 20)" in said and f"--initialize_from={config.workdir}" in said
    train(config)  # it is complete, as it was


def test_a_damaged_checkpoint_is_told_with_what_comes_without_it(short):
    config = short(width=1024, steps=STEPS)
    train(config)
    for step, then in ((16, "That is step 12."), (12, "There is none here: without it the run in")):
        place = Path(config.workdir, f"checkpoints/{step}")
        file = max(place.rglob("*"), key=lambda f: f.stat().st_size)
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 16
        file.write_bytes(content)
        said = refused(more(config, 40), f"/{step}: this checkpoint is damaged")
        assert then in said and "Remove that directory and run again" in said
        shutil.rmtree(place)
    assert f"--initialize_from={config.workdir}" in said and "at step 16" in said


def test_nothing_is_lost_while_a_step_may_still_be_refused(complete, monkeypatch):
    """Rows that cannot be read, or are not finite, are found when they are read."""
    config = complete()
    longer, read = more(config, 40), Batches.read

    def unreadable(batches, step, *rows):
        raise InputError(f"step {step} cannot be read")

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "read", unreadable)
        refused(longer, "step 16 cannot be read")
    with monkeypatch.context() as patch:
        patch.setattr(Batches, "read", lambda batches, step, *rows: read(batches, step, *rows) * np.float32(np.nan))
        refused(longer, "step 17: the loss is not finite|step 17: 64 of 64 rows hold NaN")
    refused(dataclasses.replace(longer, seed=5), r"another configuration: --seed=0 \(now 5\)")
    refused(dataclasses.replace(longer, batch_size=32), "another configuration")


def test_a_member_of_a_sweep_stays_what_it_is_and_a_copy_goes_on(complete, made, tmp_path):
    config = complete("sweep/members/one")
    (tmp_path / "sweep/grid.json").write_text("{}")
    refused(more(config, 40), "is a member of the sweep .*/sweep, with --tokens=1280. Copy its directory")
    shutil.copytree(config.workdir, tmp_path / "copy")
    copy = more(config, 40, workdir=str(tmp_path / "copy"))
    train(copy)
    assert bits(copy) == made(40)[1]
    train(config)


def test_other_first_tokens_are_refused(complete):
    config = complete()
    longer = more(config, 40)
    said = refused(
        dataclasses.replace(longer, first_tokens=999), "--first_tokens=999: the run in .* was begun with 1280"
    )
    assert "Leave the flag out" in said
    train(dataclasses.replace(longer, first_tokens=1280))
    refused(more(config, 60, first_tokens=2560), "was begun with 1280")
    with pytest.raises(InputError, match="--first_tokens=63: is less than one batch"):
        dataclasses.replace(config, first_tokens=63)


def test_fewer_tokens_than_were_taken_are_refused(complete, short, monkeypatch):
    config = complete()
    said = refused(more(config, 10), r"--tokens=640: the run in .* has trained on 1280 already \(step 20 of 20\)")
    assert "Give --tokens=1280 or more" in said
    cut = short("cut", steps=40)
    killed(cut, monkeypatch, **{**LINE, "when": lambda log, line: line["step"] == 23})
    assert saved(cut)[-1] == 20
    said = refused(more(cut, 22), r"has trained on 1280 already \(step 20 of 40\), and with so few .* from step 18 on")
    assert "Give --tokens=1600 or more" in said  # 25 steps: the last 5 of them fall
    assert steps_before_fall(cut.optimization, 25) == 20 > steps_before_fall(cut.optimization, 24)
