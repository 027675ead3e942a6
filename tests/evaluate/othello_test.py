"""The board in single latents: every figure against all pairs of rows, dense and in float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.errors import InputError
from jaxsae.evaluate import EvaluateConfig, beside_control, evaluate
from jaxsae.evaluate import games as play
from jaxsae.evaluate.othello import both_present, single
from jaxsae.evaluate.othello_config import OthelloConfig
from jaxsae.lm import weights

SITE, GAMES, FIRST, LAST = "resid_post.0", 12, 10, 30
P = LAST - FIRST + 1
FLAGS = dict(suite=("othello",), site=SITE, games=GAMES, games_per_batch=5, batch_size=100, probe_rows=300)
FLAGS |= dict(first_position=FIRST, last_position=LAST)
FLAGS |= dict(othello=OthelloConfig(othello_k=(1, 3), othello_games=4, othello_played=0))


def boards(games):
    """bool [G * P, 192] square by square, from the bits of Python integers."""
    rows = []
    for g in range(len(games)):
        for t in range(FIRST, LAST + 1):
            mine, theirs = int(games.own[g, t]), int(games.opponent[g, t])
            state = [0 if not (mine | theirs) >> s & 1 else 1 if mine >> s & 1 else 2 for s in range(64)]
            rows.append([s == which for which in range(3) for s in state])
    return np.array(rows)


def by_pairs(units, labels):
    """[U, T]: the share of (positive, negative) pairs in the right order, ties half."""
    y, counts = labels.astype(float), labels.sum(0)
    out = []
    for unit in units.T:
        wins = (np.sign(unit[:, None] - unit[None]) + 1) / 2
        out.append(((wins @ (1 - y)) * y).sum(0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.array(out) / (counts * (len(y) - counts))


def expected_counts(units, labels, signed=False):
    half = GAMES // 2 * P
    parts = [by_pairs(units[s], labels[s]) for s in (slice(None), slice(half), slice(half, None))]
    if signed:
        parts = [np.concatenate([p, 1 - p]) for p in parts]
    whole, first, second = parts
    defined = np.isfinite(whole).all(0)
    best = np.where(defined, whole.max(0), np.nan)
    held = [second[first[:, t].argmax(), t] for t in range(192) if np.isfinite(first[:, t]).all()]
    return best, int((np.array(held) > 0.9).sum())


def check(figures, best, held):
    np.testing.assert_allclose(np.array(figures["best_auroc"], float), best, atol=1e-5)
    assert figures["held_out_total"] == held
    assert figures["mean_best_auroc"] == pytest.approx(np.nanmean(best), abs=1e-5)
    count = figures["above_0.9"]
    for i, state in enumerate(("empty", "mine", "theirs")):
        assert count[state] == (best[64 * i : 64 * (i + 1)] > 0.9).sum()
    assert count["total"] == (best > 0.9).sum()


@pytest.mark.parametrize("architecture", ["topk", "batchtopk", "relu"])
def test_every_count(tmp_path, monkeypatch, capsys, model, model_path, make_dictionary, dense, architecture):
    dictionary = make_dictionary(architecture)
    control_model = weights.load("random:7")
    width = control_model.config.d_model
    control = make_dictionary("topk", seed=3, d_model=width, site="resid_post.1", model="random:7")
    monkeypatch.setattr(beside_control, "load_dictionary", lambda run, mesh, flag: control)
    config = EvaluateConfig(run=str(tmp_path), model=model_path, control_run=str(tmp_path), **FLAGS)
    found = evaluate(config, dictionary)["othello"]

    games = play.held_out_games(GAMES, 0, play.BOARD)
    labels = boards(games)
    moves = games.moves[:, :59].astype(np.int32)

    def read(model, site):
        return np.asarray(model(moves, read=[site])[1][site])[:, FIRST : LAST + 1]

    x = read(model, SITE).reshape(-1, 16).astype(np.float64)
    z, x_hat = dense(dictionary, x).z, dense(dictionary, x).x_hat
    best, held = expected_counts(z, labels)
    check(found, best, held)
    chosen = np.array(found["best_latent"])
    assert ((chosen == -1) == np.isnan(best)).all()
    figures = by_pairs(z, labels)
    for t in np.flatnonzero(chosen >= 0):
        assert figures[chosen[t], t] == pytest.approx(best[t], abs=1e-5)
    assert found["targets"] == (labels.any(0) & ~labels.all(0)).sum() == np.isfinite(best).sum() < 192
    assert found["rows"] == GAMES * P and found["games"] == GAMES and found["positions"] == [FIRST, LAST]
    assert found["fvu"] == pytest.approx(np.square(x - x_hat).sum() / np.square(x - x.mean(0)).sum(), rel=1e-5)
    assert found["l0"] == pytest.approx((z > 0).sum(1).mean()) and found["alive"] == (z > 0).any(0).sum()

    best, held = expected_counts(x, labels, signed=True)
    check(found["baselines"]["raw"], best, held)
    x_control = read(control_model, "resid_post.1").reshape(-1, width)
    beside, held = expected_counts(dense(control, x_control).z, labels)
    check(found["baselines"]["random_model"], beside, held)
    assert found["baselines"]["random_model"]["fvu"] > 0 and found["baselines"]["random_model"]["model"] == "random:7"
    probe = found["baselines"]["linear_probe"]
    assert probe["mean_best_auroc"] > 0.5 and 300 <= probe["fitted_rows"] < 300 + P
    for figures in (found, *found["baselines"].values()):
        assert 0 <= figures["board_f1"] <= 1 and 0 < figures["coverage"] <= 1
    assert "random_model" in capsys.readouterr().err


def test_a_dictionary_that_holds_the_board_finds_it():
    """Latents that are the labels themselves, with noise: every target, precise boards."""
    rng = np.random.default_rng(0)
    games = play.held_out_games(40, 0, play.BOARD)
    labels = boards(games)
    identity = np.eye(192, dtype=np.float32)
    params = Params.of(
        *map(jnp.asarray, (identity, np.full(192, -0.4, np.float32), identity, np.zeros(192, np.float32)))
    )
    x = labels + 0.1 * rng.standard_normal(labels.shape)
    dictionary = Dictionary(params, MethodConfig(width=192, architecture="relu"))
    found = single.of_dictionary(dictionary, x.astype(np.float32), labels, len(labels) // 2, 256).figures
    targets = int(both_present(labels).sum())
    assert found["above_0.9"]["total"] == targets > 150
    assert found["mean_best_auroc"] > 0.999 and found["coverage"] > 0.99 and found["board_f1"] > 0.95
    assert found["held_out_total"] > 0.9 * targets
    silent = Dictionary(params.put(b_enc=jnp.full(192, -9.0)), dictionary.config)
    found = single.of_dictionary(silent, x.astype(np.float32), labels, len(labels) // 2, 256).figures
    assert found["above_0.9"]["total"] == 0 and found["mean_best_auroc"] == 0.5 and found["alive"] == 0


def test_principal_components_come_from_other_games(tmp_path, model, model_path, make_dictionary):
    config = EvaluateConfig(run=str(tmp_path), model=model_path, **FLAGS)
    found = evaluate(config, make_dictionary())["othello"]
    count = -(-300 // P)
    kept = slice(FIRST, LAST + 1)
    other = play.activations(model, SITE, play.held_out_games(count, 0, play.PROBE), kept, 5).astype(np.float64)
    x = play.activations(model, SITE, play.held_out_games(GAMES, 0, play.BOARD), kept, 5)
    vt = np.linalg.svd(other - other.mean(0), full_matrices=False)[2]
    labels = boards(play.held_out_games(GAMES, 0, play.BOARD))
    check(found["baselines"]["pca"], *expected_counts(x @ vt.T, labels, signed=True))


def test_without_a_control_the_baseline_is_null_and_said(tmp_path, capsys, model_path, make_dictionary):
    config = EvaluateConfig(run=str(tmp_path), model=model_path, **FLAGS)
    assert evaluate(config, make_dictionary())["othello"]["baselines"]["random_model"] is None
    text = capsys.readouterr().err
    assert "--control_run" in text and "not measured" in text


def test_a_control_on_trained_weights_is_refused(tmp_path, monkeypatch, model_path, make_dictionary):
    monkeypatch.setattr(beside_control, "load_dictionary", lambda run, mesh, flag: make_dictionary(model="shipped"))
    config = EvaluateConfig(run=str(tmp_path), model=model_path, control_run=str(tmp_path), **FLAGS)
    with pytest.raises(InputError, match=r"--control_run=.* belongs to model 'shipped'"):
        evaluate(config, make_dictionary())
