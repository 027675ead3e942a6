"""The table of the Othello GPT's family: what its cards say, and models that are what they are said to be."""

import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from absl import flags

from jaxsae.config import define_flags, from_flags
from jaxsae.errors import InputError
from jaxsae.lm import family, othello, weights
from jaxsae.lm.family import FLAGS, shipped_family
from jaxsae.lm.gpt import GPTConfig
from jaxsae.lm.train import HELD_OUT_SEED, TrainLMConfig, train

ROOT = Path(__file__).parents[2]


def parsed(command: str) -> TrainLMConfig:
    """The configuration of a member's command."""
    name, *arguments = shlex.split(command)[1:]
    assert name == "train_lm"
    values = flags.FlagValues()
    define_flags(TrainLMConfig, values)
    flags.DEFINE_string("flagfile", "", "", flag_values=values)
    values(["jaxsae", *(a.replace(f"={FLAGS}", f"={ROOT / FLAGS}") for a in arguments)])
    return from_flags(TrainLMConfig, values)


def test_each_member_is_what_its_command_makes():
    members = shipped_family().members
    assert len(members) >= 9 and len({m.parameters for m in members}) >= 4 and len({m.tokens for m in members}) >= 3
    assert (ROOT / FLAGS).read_text().startswith(f"# jaxsae train_lm --flagfile={FLAGS} ")
    for member in members:
        config = parsed(member.command)
        assert (config.games, config.games_per_batch, config.seed) == (
            member.games,
            member.games_per_batch,
            member.seed,
        )
        assert {name: getattr(config.model, name) for name in member.shape} == member.shape
        d, layers = member.shape["d_model"], member.shape["layers"]
        assert member.embedding == (60 + 59 + 60) * d and member.parameters == member.embedding + layers * 12 * d * d
        assert member.tokens == 59 * member.games and member.compute == 6 * member.parameters * member.tokens
        assert shipped_family().floor < member.loss < np.log(60)


def test_more_parameters_and_more_games_never_do_worse():
    by_shape = {(m.parameters, m.tokens): m.loss for m in shipped_family().members if m.seed == 0}
    for (n, d), loss in by_shape.items():
        assert all(other >= loss for (n2, d2), other in by_shape.items() if n2 <= n and d2 <= d)


def test_the_floor_is_that_of_the_games_and_others_are_the_model_in_the_box():
    games = othello.full_games(shipped_family().games, np.random.default_rng(HELD_OUT_SEED + 1))
    assert shipped_family().floor == pytest.approx(othello.loss_floor(games.legal_tokens()), abs=1e-12)
    first, second = shipped_family().others
    card = weights.read_notes("shipped")
    assert second.loss == card["held_out"]["cross_entropy_nats"] and second.tokens == family.tokens_trained(card)
    assert first.tokens == 59 * 480_000 and second.tokens == 59 * (480_000 + 279_936)
    for other in shipped_family().others:
        assert (ROOT / shlex.split(other.command)[2].partition("=")[2]).is_file()


def test_a_table_is_made_of_cards(tmp_path, monkeypatch, capsys):
    shape = GPTConfig(layers=1, d_model=8, heads=1)
    for games in (32, 16):
        train(
            TrainLMConfig(
                output=str(tmp_path / f"g{games}"), games=games, games_per_batch=8, held_out_games=64, model=shape
            )
        )
    runs = [str(tmp_path / name) for name in ("g32", "g16")]
    monkeypatch.setattr(sys, "argv", ["family", str(tmp_path / "table.json"), *runs])
    family.main()
    held = json.loads((tmp_path / "table.json").read_text())
    assert [m["games"] for m in held["members"]] == [16, 32] and held["floor"] == shipped_family().floor
    card = json.loads((tmp_path / "g32" / "card.json").read_text())
    assert held["members"][1]["loss"] == card["held_out"]["cross_entropy_nats"] and held["games"] == 2048
    assert held["members"][1]["parameters"] == card["parameters"] == 179 * 8 + 12 * 64
    card["held_out"]["games"] = 64
    (tmp_path / "g32" / "card.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match="different games"):
        family.main()
    with pytest.raises(InputError, match="none: holds no card.json"):
        family.read_member(tmp_path / "none")
