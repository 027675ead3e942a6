"""The law against scikit-learn's likelihood, a plain grid search, and recoveries drawn from known thresholds."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jaxsae.evaluate.rare.law import DROP, fit_power, fit_threshold, log_likelihood

GRID = 10 ** -np.linspace(2, 5, 10)


def drawn(f50: float, slope: float, each: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    f = np.repeat(GRID, each)
    chance = 1 / (1 + np.exp(-slope * np.log(f / f50)))
    return f, np.random.default_rng(seed).random(len(f)) < chance


def test_a_threshold_is_the_likeliest_and_its_interval_that_of_the_ratio():
    f, found = drawn(3e-4, 2.0, 12, 0)
    law = fit_threshold(f, found)
    sk = LogisticRegression(C=np.inf, tol=1e-10).fit(np.log(f)[:, None], found)
    assert law.slope == pytest.approx(sk.coef_[0, 0], rel=1e-3)
    assert np.log(law.f50) == pytest.approx(-sk.intercept_[0] / sk.coef_[0, 0], abs=1e-3)
    at, slopes = np.linspace(np.log(1e-6), np.log(1e-1), 801), np.geomspace(0.05, 50, 400)
    profile = np.array([max(log_likelihood(found, s * (np.log(f) - c)) for s in slopes) for c in at])
    inside = at[profile > profile.max() - DROP]
    np.testing.assert_allclose(np.log(law.interval), [inside[0], inside[-1]], atol=0.03)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    held = 0
    for seed in range(40):
        low, high = fit_threshold(*drawn(3e-4, 2.0, 8, seed)).interval
        held += low <= 3e-4 <= high
    assert 34 <= held <= 40


def test_where_nothing_overlaps_the_threshold_is_in_the_gap():
    f = np.repeat(GRID, 4)
    law = fit_threshold(f, f > 3e-4)
    above, below = f[f > 3e-4].min(), f[f <= 3e-4].max()
    assert below < law.f50 < above and law.interval[0] < below * 1.2 and law.interval[1] > above / 1.2


def test_all_or_none_found_bound_one_end():
    f = np.repeat(GRID, 4)
    law = fit_threshold(f, np.ones(len(f), bool))
    assert law.f50 is None and law.interval[0] is None and law.interval[1] == pytest.approx(GRID[-1], rel=0.3)
    law = fit_threshold(f, np.zeros(len(f), bool))
    assert law.f50 is None and law.interval[1] is None and law.interval[0] == pytest.approx(GRID[0], rel=0.3)


@pytest.mark.parametrize("widths", [(256, 1024), (256, 512, 1024)])
def test_the_power_is_found_with_its_interval(widths):
    parts = [(n, *drawn(1e-3 * (n / 256) ** -0.8, 3.0, 16, n)) for n in widths]
    width, f, found = (np.concatenate([np.broadcast_to(p[i], len(p[1])) for p in parts]) for i in range(3))
    law = fit_power(f, width, found)
    sk = LogisticRegression(C=np.inf, tol=1e-10).fit(np.stack([np.log(f), np.log(width)], 1), found)
    assert law.exponent == pytest.approx(sk.coef_[0, 1] / sk.coef_[0, 0], abs=2e-3)
    assert law.interval[0] < 0.8 < law.interval[1] and law.interval[1] - law.interval[0] < 0.8
    assert law.scale * 256**-law.exponent == pytest.approx(1e-3, rel=0.5)
    assert law.test is None if len(widths) == 2 else law.test > 0.05
    if len(widths) == 2:  # through two widths with one slope goes the line of their thresholds
        both = [fit_threshold(*p[1:]) for p in parts]
        assert law.exponent == pytest.approx(np.log(both[0].f50 / both[1].f50) / np.log(4), abs=0.1)


def test_widths_that_follow_no_power_are_told():
    parts = [(n, *drawn(f50, 3.0, 16, n)) for n, f50 in ((256, 1e-3), (512, 1e-4), (1024, 1e-3))]
    width, f, found = (np.concatenate([np.broadcast_to(p[i], len(p[1])) for p in parts]) for i in range(3))
    assert fit_power(f, width, found).test < 1e-4
    assert fit_power(f[width == 256], width[width == 256], found[width == 256]) is None


def test_separate_widths_have_an_exponent_in_between():
    f = np.tile(np.repeat(GRID, 3), 2)
    width = np.repeat([256, 1024], len(GRID) * 3)
    law = fit_power(f, width, f > np.where(width == 256, 5e-4, 5e-5))
    assert (
        law.interval[0] < np.log(10) / np.log(4) < law.interval[1] and law.interval[0] < law.exponent < law.interval[1]
    )
