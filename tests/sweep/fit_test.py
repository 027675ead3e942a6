"""What is drawn from a law is found again, with intervals that hold as often as they say, and beyond the members."""

import numpy as np
import pytest
from published_law import CONSTANTS, KS, WIDTHS, losses
from scipy.optimize import least_squares

from jaxsae.sweep import laws
from jaxsae.sweep.bootstrap import bootstrap, refit
from jaxsae.sweep.fit import fit, why_not

DRAWS, RESAMPLES = 40, 800


def test_published_constants_lie_in_their_intervals_and_the_law_reaches_8_times_further(show):
    """1% of noise; the study of 100 draws is tests/studies/scaling_laws.py."""
    covered, errors = np.zeros(6), []
    for draw in range(DRAWS):
        n, k, y = losses(seed=[7, draw])
        found = fit(laws.JOINT, {"n": n, "k": k}, y)
        constants = bootstrap(found, seed=draw, resamples=RESAMPLES).constants()
        ends = [constants[name]["interval"] for name in CONSTANTS]
        covered += [low <= true <= high for (low, high), true in zip(ends, CONSTANTS.values(), strict=True)]
        far = 8 * max(WIDTHS)
        errors += list(found.predict(n=far, k=np.array(KS)) / laws.JOINT(CONSTANTS, n=far, k=np.array(KS)) - 1)
    show(f"joint law: {covered.astype(int).tolist()} of {DRAWS} intervals hold; 8 times further {np.std(errors):.2%}")
    # P(fewer than 34 of 40 | 0.95) is 0.3%; intervals that are far too wide would hold always
    assert covered.min() >= 34 and covered.sum() < 6 * DRAWS
    assert np.quantile(np.abs(errors), 0.95) < 0.03


def test_without_noise_every_constant_is_exact():
    n, k, y = losses(noise=0.0)
    found = fit(laws.JOINT, {"n": n, "k": k}, y)
    for name, value in CONSTANTS.items():
        assert found.constants[name] == pytest.approx(value, abs=1e-5), name
    assert found.agreeing == found.starts == 5 and found.identified
    n, d = (a.ravel() for a in np.meshgrid(2.0 ** np.arange(8, 15, 2), 10.0 ** np.arange(5, 11)))
    true = dict(E=0.1, A=3.0, a=0.3, B=70.0, c=0.2, b=0.4)
    found = fit(laws.ALLOCATION, {"n": n, "D": d}, laws.ALLOCATION(true, n=n, D=d))
    assert found.constants == pytest.approx(true, rel=1e-3)


def test_the_batch_of_refits_is_what_scipy_finds_one_by_one():
    n, k, y = losses(seed=3)
    found = fit(laws.JOINT, {"n": n, "k": k}, y)
    features = found.features(found.x)
    targets = np.log(y) + 0.02 * np.random.default_rng(0).standard_normal((4, len(y)))
    weights, free = np.linspace(0.5, 1, len(y)), np.full(6, np.inf)
    value = lambda c: laws.JOINT.log_value(c, features)
    got = refit(value, found.coefficients, targets, weights, -free, free)
    for coefficients, target in zip(got, targets, strict=True):
        residual = lambda c, target=target: np.sqrt(weights) * (value(c)[0] - target)
        wanted = least_squares(residual, found.coefficients, xtol=1e-14, ftol=1e-14, gtol=1e-14)
        assert np.square(residual(coefficients)).sum() <= 2 * wanted.cost * (1 + 1e-6)
        np.testing.assert_allclose(value(coefficients)[0], value(wanted.x)[0], atol=1e-4)


def test_the_same_seed_gives_the_same_intervals():
    n, k, y = losses(WIDTHS[:4], KS[:4])
    make = lambda seed: bootstrap(fit(laws.JOINT, {"n": n, "k": k}, y), seed, 200).constants()
    assert make(0) == make(0) != make(1)


def test_a_member_that_diverged_does_not_move_the_law_and_is_known():
    n, k, y = losses(seed=5)
    clean = fit(laws.JOINT, {"n": n, "k": k}, y)
    spoilt = y.copy()
    spoilt[20] *= 1.5
    found = fit(laws.JOINT, {"n": n, "k": k}, spoilt)
    assert found.weights[20] < 0.2 and (np.delete(found.weights, 20) > 0.5).all()
    inside = dict(n=np.array([2.0**12, 2.0**17]), k=np.array([16.0, 100.0]))
    np.testing.assert_allclose(found.predict(**inside), clean.predict(**inside), rtol=0.005)


def test_a_floor_of_nothing_is_said_to_be_nothing():
    n = 2.0 ** np.arange(10, 19)
    y = 3 * n**-0.3 * (1 + 0.01 * np.random.default_rng(2).standard_normal(len(n)))
    constants = bootstrap(fit(laws.CONVERGENCE, {"n": n}, y), resamples=500).constants()
    low, high = constants["E"]["interval"]
    assert low == 0 and 0 < high < y.min()
    assert constants["a"]["interval"][0] <= 0.3 <= constants["a"]["interval"][1]


def test_constants_that_members_cannot_tell_apart_have_no_interval():
    n, k = (a.ravel() for a in np.meshgrid(2.0 ** np.arange(10, 14), [8.0, 16.0, 32.0]))
    y = laws.JOINT_WITHOUT_FLOOR(dict(alpha=0.0, bk=-0.1, bn=-0.1, g=0.0), n=n, k=k)  # one power law, no floor
    found = fit(laws.JOINT, {"n": n, "k": k}, y)
    assert not found.identified  # and so nothing is derived from them
    assert all(c["interval"] is None for c in bootstrap(found, resamples=50).constants().values())
    np.testing.assert_allclose(found.predict(n=n, k=k), y, rtol=1e-4)


def test_too_few_points_are_counted():
    assert why_not(laws.JOINT, {"n": [1, 2, 3] * 3, "k": [1, 1, 1, 2, 2, 2, 3, 3, 3]}) == ""
    assert "3 values of n (there are 2)" in why_not(laws.JOINT, {"n": [1, 2] * 5, "k": [1, 2, 3, 4, 5] * 2})
    assert "8 points (there are 6)" in why_not(laws.JOINT, {"n": [1, 2, 3] * 2, "k": [1, 2, 3, 2, 3, 1]})
    with pytest.raises(ValueError, match="needs 3 values of n"):
        fit(laws.TOKENS, {"n": [1.0, 2.0]}, [1.0, 2.0])
    with pytest.raises(ValueError, match="positive and finite"):
        fit(laws.TOKENS, {"n": [1.0, 2.0, 4.0, 8.0]}, [1.0, np.nan, 2.0, 3.0])
