"""A run is judged on its held-out rows at every checkpoint, as `jaxsae evaluate` will judge it."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from jaxsae.dictionary import MethodConfig
from jaxsae.evaluate import EvaluateConfig, evaluate
from jaxsae.report import figures
from jaxsae.report.cards import cards as cards_of
from jaxsae.training import train
from jaxsae.training.held_out import RARE, HeldOut, missed_l0, words
from jaxsae.training.setup import Setup

NAMES = {"held_out_fvu", "held_out_l0", "held_out_rows"}


@pytest.mark.parametrize("mesh", [(1, 1), (2, 4), (4, 2)])
def test_held_out_figures_are_those_of_evaluate(configure, metrics, mesh):
    config = configure(steps=6, mesh=mesh, holdout_rows=256, checkpoint_every=4)
    dictionary = train(config)
    lines = [line for line in metrics(config) if "held_out_fvu" in line]
    assert [line["step"] for line in lines] == [4, 6] and all(set(line) >= NAMES for line in lines)
    found = evaluate(EvaluateConfig(run=config.workdir), dictionary)["reconstruction"]
    assert lines[-1]["held_out_rows"] == found["rows"] == 256
    for ours, theirs in (
        ("fvu", "fvu"),
        ("l0", "l0"),
        ("dead_fraction",) * 2,
        ("rare_fraction",) * 2,
        ("dense_fraction",) * 2,
    ):
        assert lines[-1][f"held_out_{ours}"] == pytest.approx(found[theirs], rel=1e-4), ours
    assert lines[0]["held_out_fvu"] > lines[-1]["held_out_fvu"]


def test_a_checkpoint_off_the_log_has_a_line_too(configure, metrics):
    config = configure(steps=6, log_every=5, checkpoint_every=4)
    train(config)
    assert [(line["step"], "held_out_fvu" in line) for line in metrics(config)] == [(4, True), (5, False), (6, True)]


def test_rows_that_do_not_fill_equal_pieces_are_left_out_and_counted(configure, metrics):
    config = configure(steps=1, holdout_rows=131, mesh=(2, 4))
    train(config)
    assert metrics(config)[-1]["held_out_rows"] == 126  # three pieces of 42


def test_without_held_out_rows_there_are_no_such_figures(configure, metrics):
    config = configure(steps=1, holdout_rows=0)
    train(config)
    assert not any(name.startswith("held_out") for name in metrics(config)[-1])


def test_an_l0_that_is_not_as_asked_is_said():
    asked = MethodConfig(width=64, k=8, architecture="relu")
    assert "l0 of 4 where 8 was asked for" in missed_l0(asked, {"held_out_l0": 4.0})
    assert missed_l0(asked, {"held_out_l0": 8.4}) == missed_l0(asked, {}) == ""
    for other in (MethodConfig(width=64, k=8), MethodConfig(width=64, architecture="relu", target_l0=0.0)):
        assert missed_l0(other, {"held_out_l0": 4.0}) == ""


def test_the_board_has_held_out_figures_of_their_own(configure):
    config = configure(steps=1)
    train(config)
    (events,) = Path(config.workdir, "tensorboard").glob("events*")
    assert b"held_out/fvu" in events.read_bytes() and b"train/held_out" not in events.read_bytes()


def test_the_closing_line_names_the_windows(configure, capsys):
    config = configure(steps=2, dead_tokens=100)
    train(config)
    closing = capsys.readouterr().err.splitlines()[-1]
    assert "in 100 rows" in closing and "held-out rows (64)" in closing and "on more than 1 in 10 " in closing
    assert "1 in 10,000" not in closing  # of 64 rows that is none, which is told already
    line = json.loads(Path(config.workdir, "metrics.jsonl").read_text().splitlines()[-1])
    assert line["dead_window"] == 100
    assert "on fewer than 1 in 10,000" in words(line | {"held_out_rows": 20_000})


def test_a_report_without_an_evaluation_heads_with_held_out_figures(configure):
    config = configure(steps=2)
    train(config)
    metrics = [json.loads(line) for line in Path(config.workdir, "metrics.jsonl").read_text().splitlines()]
    cards = {c.label: c for c in cards_of(SimpleNamespace(evaluations={}, metrics=metrics), othello=False)}
    assert cards["FVU"].value == figures.decimal(metrics[-1]["held_out_fvu"]) != figures.decimal(metrics[-1]["fvu"])
    assert all("64 held-out rows" in card.beside for card in cards.values())


def test_a_window_is_of_as_many_latents_as_are_aimed_at(configure):
    window = lambda **method: configure(dead_tokens=None, method=MethodConfig(width=64, **method)).dead_window
    assert window(k=2) == 40 * 64 // 2
    assert window(architecture="jumprelu", target_l0=2.5) == 40 * 64 // 2.5
    assert window(architecture="relu", target_l0=0.0) == 10_000_000  # of which nothing is known


def test_before_a_window_has_passed_no_share_of_dead_latents_is_told(configure, capsys):
    config = configure(steps=2, dead_tokens=1000, holdout_rows=0)
    train(config)
    assert "dead not known before 1,000 rows" in capsys.readouterr().err.splitlines()[-1]
    metrics = [json.loads(Path(config.workdir, "metrics.jsonl").read_text().splitlines()[-1])]
    run = SimpleNamespace(evaluations={}, metrics=metrics)
    card = next(c for c in cards_of(run, othello=False) if c.label == "dead")
    assert card.value == figures.NONE and "not known before 1,000 rows" in card.beside


def test_classes_count_latents_by_rows(configure):
    """On the held-out rows themselves, by hand."""
    config = configure(steps=1, ema_decay=0.0, mesh=(2, 4))
    train(config)
    setup = Setup.of(config)
    state = setup.fresh_state()
    found = HeldOut(setup)(state)
    params = [np.asarray(a, np.float64) for a in (state.params.W_enc, state.params.b_enc)]
    x = setup.read([(setup.rows - setup.holdout, setup.rows)]).astype(np.float64)
    y = (x - setup.normalization.mean) * setup.normalization.scale
    pre = y @ params[0].T + params[1]
    chosen = np.argsort(-pre, 1)[:, :4]
    count = np.bincount(chosen[np.take_along_axis(pre, chosen, 1) > 0], minlength=64)
    assert found["held_out_dead_fraction"] == (count == 0).mean() > 0
    assert found["held_out_rare_fraction"] == (count < RARE * len(x)).mean()
    assert found["held_out_dense_fraction"] == (count > 0.1 * len(x)).mean() > 0


def test_held_out_rows_that_cannot_be_read_do_not_stop_a_run(configure, own_store, metrics, capsys):
    config = configure(store=own_store(), steps=2, holdout_rows=256, mesh=(1, 1))
    (Path(config.store) / "sites/activations/activations/c/7/0").write_bytes(b"cut")
    train(config)
    assert "held-out rows are left out" in capsys.readouterr().err
    assert [line["step"] for line in metrics(config)] == [1, 2] and "held_out_fvu" not in metrics(config)[-1]
