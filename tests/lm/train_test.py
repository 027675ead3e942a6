"""Training the Othello GPT writes what it should and learns; the model in the box does what its card says."""

import json
from importlib import resources

import numpy as np
import pytest

from jaxsae.config import read_flag_file
from jaxsae.errors import InputError
from jaxsae.lm import othello, weights
from jaxsae.lm.gpt import GPTConfig
from jaxsae.lm.train import TrainLMConfig, cross_entropy, measure, train

SHAPE = GPTConfig(layers=1, d_model=32, heads=2)


def test_a_short_run_writes_its_files_and_lowers_the_loss(tmp_path):
    config = TrainLMConfig(
        output=str(tmp_path), games=60 * 16, games_per_batch=16, warmup_steps=5, held_out_games=64, log_every=10,
        model=SHAPE,
    )  # fmt: skip
    model = train(config)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 30, 40, 50, 60]
    losses = [line["held_out"]["cross_entropy_nats"] for line in lines]
    assert losses[-1] < losses[0] - 0.15 and losses[-1] < np.log(60) - 0.2
    assert read_flag_file(tmp_path / "config.flags", TrainLMConfig) == config
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["steps"] == 60 and card["games"] == 960 and card["held_out"]["games"] == 2048
    loaded = weights.load(str(tmp_path / "model.safetensors"))
    assert loaded.config == SHAPE == model.config
    assert weights.read_notes(str(tmp_path / "model.safetensors")) == card
    games = othello.full_games(64, np.random.default_rng(9))
    now, start = (measure(m, games)["cross_entropy_nats"] for m in (loaded, weights.init(SHAPE, 0)))
    assert now < start - 0.2
    again = train(TrainLMConfig(output=str(tmp_path / "2"), initial=str(tmp_path / "model.safetensors"), games=128))
    assert again.config == SHAPE  # a model to start from brings its shape


def test_cross_entropy_is_against_the_uniform_distribution_over_legal_moves():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 3, 60)).astype(np.float32)
    legal = (rng.random((2, 3, 60)) < 0.2).astype(np.float32)
    odds = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = -(legal * np.log(odds)).sum(-1) / legal.sum(-1)
    np.testing.assert_allclose(cross_entropy(logits, legal), expected.mean(), rtol=1e-5)
    floor = cross_entropy(np.where(legal > 0, 0, -1e9).astype(np.float32), legal)
    np.testing.assert_allclose(floor, othello.loss_floor(legal.astype(np.uint8)), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "value"),
    [("games", 0), ("games", 100), ("games_per_batch", 0), ("held_out_games", 63), ("log_every", 0), ("seed", -1)],
)
def test_settings_that_make_no_sense_are_refused(name, value):
    with pytest.raises(InputError, match=f"--{name}={value}"):
        TrainLMConfig(output="x", **{name: value})


def test_the_model_in_the_box_does_what_its_card_says():
    path = weights.shipped_path()
    assert path.stat().st_size < 4_000_000
    card = json.loads((resources.files("jaxsae.lm") / "othello_gpt.card.json").read_text())
    model = weights.load()
    assert weights.read_notes("shipped")["held_out"] == card["held_out"]
    found = measure(model, othello.full_games(256, np.random.default_rng(2024)))  # games that no seed here plays
    expected = card["held_out"]
    assert abs(found["floor_nats"] - expected["floor_nats"]) < 0.03
    assert abs(found["excess_nats"] - expected["excess_nats"]) < 0.02
    assert abs(found["legal_top1"] - expected["legal_top1"]) < 0.01
    assert abs(found["legal_probability"] - expected["legal_probability"]) < 0.01
    untrained = measure(weights.load("random:0"), othello.full_games(64, np.random.default_rng(2024)))
    assert untrained["legal_top1"] < 0.5
