"""AUROC and F1 of a probe a target against scikit-learn, and their intervals against leaving games out."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from jaxsae.evaluate.scores import areas, mean_with_interval, scores

GAMES, PLIES = 30, 8


@pytest.fixture(params=["distinct", "tied"])
def case(request):
    rng = np.random.default_rng(0)
    of_game = np.repeat(rng.standard_normal((GAMES, 3)), PLIES, 0)  # rows of one game are alike
    labels = of_game + rng.standard_normal(of_game.shape) > 0
    logits = labels + of_game + rng.standard_normal(of_game.shape) - 0.5
    return (np.round(logits) if request.param == "tied" else logits), labels


def test_equal_scikit_learn(case):
    logits, labels = case
    found = scores(logits, labels, GAMES)
    expected = [roc_auc_score(y, z) for y, z in zip(labels.T, logits.T, strict=True)]
    np.testing.assert_allclose(found.auroc, expected, atol=1e-12)
    np.testing.assert_array_equal(areas(logits, labels), found.auroc)
    np.testing.assert_allclose(
        found.f1, [f1_score(y, z > 0) for y, z in zip(labels.T, logits.T, strict=True)], atol=1e-12
    )


@pytest.mark.parametrize("figure", ["auroc", "f1"])
def test_intervals_are_those_of_a_jackknife_over_games(case, figure):
    logits, labels = case
    found = scores(logits, labels, GAMES)
    values, by_game = getattr(found, figure), getattr(found, f"{figure}_by_game")
    np.testing.assert_allclose(by_game.sum(0), 0, atol=1e-12)
    mean, (low, high) = mean_with_interval(values, by_game)
    without = []
    for game in range(GAMES):
        kept = np.repeat(np.arange(GAMES) != game, PLIES)
        without.append(getattr(scores(logits[kept], labels[kept], GAMES - 1), figure).mean())
    spread = np.sqrt((GAMES - 1) / GAMES * np.square(np.array(without) - np.mean(without)).sum())
    assert mean == pytest.approx(values.mean()) == pytest.approx((low + high) / 2)
    assert (high - low) / 2 == pytest.approx(1.959964 * spread, rel=0.06)


def test_absent_classes_have_no_figure_and_leave_the_mean_alone(case):
    logits, labels = case
    labels = labels.copy()
    labels[:, 1] = False
    found = scores(logits, labels, GAMES)
    assert np.isnan(found.auroc[1]) and np.isnan(areas(logits, labels)[1]) and np.isnan(found.f1[1])
    assert mean_with_interval(found.auroc, found.auroc_by_game)[0] == pytest.approx(found.auroc[[0, 2]].mean())
    nothing = scores(logits[:, [1]], labels[:, [1]], GAMES)
    assert mean_with_interval(nothing.auroc, nothing.auroc_by_game) == (None, None)
