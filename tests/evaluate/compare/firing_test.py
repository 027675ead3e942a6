"""Firing of pairs, counted row by row."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.metrics import f1_score

from jaxsae.evaluate.compare import firing
from jaxsae.evaluate.compare.firing import Firing


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    own, other = (rng.random((80, n)) * (rng.random((80, n)) < 0.3) for n in (7, 9))
    own[:, 2] = 0
    other[:, 4] = 2 * own[:, 1]  # fires on the same rows, with twice the strength
    return own, other


def test_pairs_and_best_partners_are_those_of_loops(case, monkeypatch):
    monkeypatch.setattr(firing, "CHUNK", 3)
    own, other = case
    index = np.array([3, 4, 0, 8, -1, 5, 1])
    found = Firing.of(sp.csr_matrix(own), sp.csr_matrix(other), index, seed=0)
    f1 = np.array([[f1_score(a > 0, b > 0, zero_division=0) for b in other.T] for a in own.T])
    paired = index >= 0
    np.testing.assert_allclose(found.f1[paired], f1[paired, index[paired]])
    assert np.isnan(found.f1[4]) and found.f1[1] == found.best_f1[1] == 1 and found.best[1] == 4
    np.testing.assert_allclose(found.best_f1, f1.max(1))
    np.testing.assert_array_equal(found.best, np.where(f1.max(1) > 0, f1.argmax(1), -1))
    assert found.correlation[1] == pytest.approx(1) and np.isnan(found.correlation[2])
    assert found.correlation[3] == pytest.approx(np.corrcoef(own[:, 3], other[:, 8])[0, 1])
    assert found.chance[1] < 0.8
    np.testing.assert_array_equal(found.count, (own > 0).sum(0))


def test_figures_count_pairs_that_fire_often_enough(case):
    own, other = (sp.csr_matrix(x) for x in case)
    index = np.array([3, 4, 0, 8, -1, 5, 1])
    found = Firing.of(own, other, index, seed=0)
    pairs = np.array([False, True, True, True, False, False, False])
    figures = found.figures(pairs, index)
    assert figures["pairs"] == 2 and figures["alive"] == 6  # the third never fires
    assert figures["f1"] == pytest.approx((1 + found.f1[3]) / 2)
    a, b = own.toarray()[:, [1, 3]] > 0, other.toarray()[:, [4, 8]] > 0
    assert figures["pooled_f1"] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
    assert figures["same_partner"] == np.mean([found.best[1] == 4, found.best[3] == 8])
