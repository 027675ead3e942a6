"""AUROC against scikit-learn, and the choice of the best unit against a loop."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from jaxsae.dictionary.many import active_matrix
from jaxsae.evaluate import auroc as module
from jaxsae.evaluate.auroc import auroc, best_units


def random_case(seed, rows=120, units=7, targets=5, density=0.3, levels=6):
    """Latents with many ties and zeros, the last never active; targets of which one never holds, one always."""
    rng = np.random.default_rng(seed)
    units_NxU = rng.integers(1, levels + 1, (rows, units)) / levels * (rng.random((rows, units)) < density)
    units_NxU[:, -1] = 0
    labels = rng.random((rows, targets)) < rng.uniform(0.1, 0.9, targets)
    labels[:, 0] = (units_NxU[:, 0] > 0) ^ (rng.random(rows) < 0.1)  # something to find
    labels[:, -2], labels[:, -1] = False, True
    return units_NxU, labels


def by_sklearn(units_NxU, labels_NxT):
    out = np.full((units_NxU.shape[1], labels_NxT.shape[1]), np.nan)
    for u in range(units_NxU.shape[1]):
        for t in range(labels_NxT.shape[1]):
            if 0 < labels_NxT[:, t].sum() < len(labels_NxT):
                out[u, t] = roc_auc_score(labels_NxT[:, t], units_NxU[:, u])
    return out


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), density=st.sampled_from([0.02, 0.3, 1.0]), levels=st.sampled_from([1, 4, 10**6]))
def test_sparse_and_dense_equal_scikit_learn(seed, density, levels):
    units, labels = random_case(seed, density=density, levels=levels)
    expected = by_sklearn(units, labels)
    np.testing.assert_allclose(auroc(units, labels), expected, atol=1e-12)
    np.testing.assert_allclose(auroc(sp.csc_matrix(units), labels), expected, atol=1e-12)


def test_dead_units_say_nothing_and_absent_classes_have_no_figure():
    units, labels = random_case(0)
    found = auroc(sp.csc_matrix(units), labels)
    np.testing.assert_array_equal(found[-1, :3], 0.5)
    assert np.isnan(found[:, -2:]).all() and np.isfinite(found[:, :-2]).all()
    nothing = auroc(sp.csc_matrix((120, 3)), labels)
    np.testing.assert_array_equal(nothing[:, :3], 0.5)


def test_negative_values_count_in_dense_units():
    scores, labels = np.array([[-3.0], [-2.0], [-2.0], [0.0]]), np.array([[False], [True], [False], [True]])
    assert auroc(scores, labels)[0, 0] == pytest.approx(roc_auc_score(labels[:, 0], scores[:, 0])) == 0.875


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("chunk", [2, 4096])
@pytest.mark.parametrize("sparse", [False, True])
def test_best_unit_and_its_held_out_figure(monkeypatch, signed, chunk, sparse):
    monkeypatch.setattr(module, "CHUNK", chunk)
    units, labels = random_case(3)
    half = 50
    best = best_units(sp.csr_matrix(units) if sparse else units, labels, half, signed)
    whole, first, second = (by_sklearn(units[s], labels[s]) for s in (slice(None), slice(half), slice(half, None)))
    if signed:
        whole, first, second = (np.concatenate([f, 1 - f]) for f in (whole, first, second))
    for t in range(3):
        assert best.auroc[t] == pytest.approx(whole[:, t].max(), abs=1e-12)
        assert whole[[best.unit[t], best.unit[t] + signed * units.shape[1]], t].max() == pytest.approx(best.auroc[t])
        assert best.held_out[t] == pytest.approx(second[first[:, t].argmax(), t], abs=1e-12)
    assert np.isnan(best.auroc[3:]).all() and np.isnan(best.held_out[3:]).all() and (best.unit[3:] == -1).all()
    assert best.auroc[0] > 0.6 and best.unit[0] == 0


@pytest.mark.parametrize("sparse", [False, True])
def test_of_states_that_exclude_each_other_one_follows_from_the_others_to_the_bit(monkeypatch, sparse):
    monkeypatch.setattr(module, "CHUNK", 3)
    units, _ = random_case(5)
    state = np.random.default_rng(5).integers(0, 3, (120, 4))
    labels = np.concatenate([state == which for which in range(3)], 1)
    units = sp.csc_matrix(units) if sparse else units
    plain, shared = best_units(units, labels, 50), best_units(units, labels, 50, exclusive=3)
    for name in ("auroc", "unit", "held_out", "chosen"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(shared, name))


def test_the_unit_chosen_on_the_first_half_is_told_with_its_sign():
    rng = np.random.default_rng(1)
    labels = rng.random((60, 2)) < 0.5
    units = rng.standard_normal((60, 4))
    units[:30, 1] += 5 * labels[:30, 0]
    units[:30, 2] -= 5 * labels[:30, 1]
    assert best_units(units, labels, 30, signed=True).chosen.tolist() == [1, 4 + 2]


def test_a_class_absent_from_one_half_has_no_held_out_figure():
    rng = np.random.default_rng(0)
    units, labels = rng.random((40, 3)), np.zeros((40, 2), bool)
    labels[5:10, 0] = labels[25:30, 1] = True
    best = best_units(units, labels, 20)
    assert np.isfinite(best.auroc).all() and np.isnan(best.held_out).all()


def test_active_matrix_holds_what_is_above_zero():
    values, indices = np.array([[2.0, 1.0], [3.0, 0.0], [0.0, 0.0]]), np.array([[4, 1], [0, 2], [3, 1]])
    matrix = active_matrix(values, indices, 5)
    assert matrix.nnz == 3
    np.testing.assert_array_equal(matrix.toarray(), [[0, 1, 0, 0, 2], [3, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
