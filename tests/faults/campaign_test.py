"""Faults come out as they must, and the campaign would say so if they did not."""

import json
import random

import pytest

from jaxsae.errors import InputError
from jaxsae.faults import FaultsConfig, campaign, damage, faults
from jaxsae.faults.campaign import Outcome, table


def test_a_harvest_killed_and_a_checkpoint_damaged(tmp_path, capsys):
    out = tmp_path / "outcomes.json"
    faults(FaultsConfig(workdir=str(tmp_path / "work"), seeds=2, first_seed=7, json=str(out)))
    killed, flipped = json.loads(out.read_text())
    assert (killed["fault"], killed["outcome"]) == ("kill all in harvest", "resumed")
    assert (flipped["fault"], flipped["outcome"]) == ("flip checkpoint", "error, intact")
    assert "flip checkpoint" in capsys.readouterr().out


def test_a_trial_that_ends_in_other_bits_is_a_failure(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(campaign, "Undisturbed", lambda workdir, seconds: None)
    monkeypatch.setattr(campaign, "run_trial", lambda undisturbed, seed: Outcome(seed, "flip store", "1", "CORRUPT"))
    with pytest.raises(InputError, match=r"1 of 1 trials failed \(seeds 7\)"):
        faults(FaultsConfig(workdir=str(tmp_path / "work"), seeds=1, first_seed=7))


def test_the_table_counts_outcomes_and_the_most_lost_steps():
    some = [Outcome(0, "kill one in step", "1", "resumed", 3), Outcome(1, "kill one in step", "2", "CORRUPT")]
    heading, row, everything = table(some)
    assert heading.split()[-3:] == ["CORRUPT", "most", "lost"]
    assert row.split()[-6:] == everything.split()[-6:] == ["2", "1", "0", "0", "1", "3"]


def test_damage_changes_one_bit_or_the_length(tmp_path):
    file = tmp_path / "a" / "b"
    file.parent.mkdir()
    file.write_bytes(bytes(100))
    assert damage.spoil(tmp_path, "flip", random.Random(0)) == file
    assert sum(byte.bit_count() for byte in file.read_bytes()) == 1 and len(file.read_bytes()) == 100
    damage.spoil(tmp_path, "cut", random.Random(0))
    assert len(file.read_bytes()) < 100
