"""k-sparse probes: units chosen by a loop, regressions by scikit-learn."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression

from jaxsae.evaluate.othello.few import CERTAIN, differences, fit

ROWS, UNITS = 400, 12


@pytest.fixture
def case():
    rng = np.random.default_rng(3)
    units = rng.gamma(1.0, rng.uniform(0.2, 3, UNITS), (ROWS, UNITS)) * (rng.random((ROWS, UNITS)) < 0.3)
    units[:, 7] = 0
    noise = rng.standard_normal((ROWS, 3))
    return units, units[:, [0, 3, 5]] - units[:, [1, 2, 5]] + noise > [0, 0.5, 1]


def test_units_are_those_whose_means_differ_most(case):
    units, labels = case
    apart = differences(units, labels)
    found = fit(units, labels, 4)
    for t, y in enumerate(labels.T):
        expected = [units[y, u].mean() - units[~y, u].mean() for u in range(UNITS)]
        np.testing.assert_allclose(apart[:, t], expected, atol=1e-12)
        order = sorted(range(UNITS), key=lambda u, expected=expected: -abs(expected[u]))
        assert found.chosen[t].tolist() == order[:4]
    np.testing.assert_allclose(differences(sp.csr_matrix(units), labels), apart, atol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 5, UNITS])
@pytest.mark.parametrize("sparse", [False, True])
def test_weights_are_those_of_scikit_learn_on_standardised_units(case, k, sparse):
    units, labels = case
    given = sp.csr_matrix(units) if sparse else units
    found = fit(given, labels, k)
    logits = found.logits(given)
    for t, y in enumerate(labels.T):
        x = units[:, found.chosen[t]]
        spread = x.std(0)
        x = (x - x.mean(0)) / np.where(spread > 0, spread, 1)
        expected = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000).fit(x, y).decision_function(x)
        np.testing.assert_allclose(logits[:, t], expected, atol=1e-3 * np.abs(expected).max())


def test_what_always_or_never_held_is_certain_and_what_is_told_apart_stays_finite(case):
    units, labels = case
    labels = np.stack([np.zeros(ROWS, bool), np.ones(ROWS, bool), units[:, 4] > 0], 1)
    logits = fit(units, labels, 2).logits(units)
    assert (logits[:, 0] == -CERTAIN).all() and (logits[:, 1] == CERTAIN).all()
    assert np.isfinite(logits).all() and ((logits[:, 2] > 0) == labels[:, 2]).mean() > 0.9


def test_more_units_than_there_are_is_all_of_them(case):
    units, labels = case
    assert fit(units, labels, 99).chosen.shape == (3, UNITS)
