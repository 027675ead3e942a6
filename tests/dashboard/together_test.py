"""Firing together and nearest decoder rows, against dense correlations and cosines."""

import numpy as np
import pytest
import scipy.sparse as sp
from sparse_latents import sparse

from jaxsae.dashboard import together as module
from jaxsae.dashboard.products import largest, nearest
from jaxsae.dashboard.together import FEWEST, thinned, together


def phi_of(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlations of firing [n, k], of pairs that fire together often enough; NaN elsewhere."""
    on_a, on_b = a != 0, b != 0
    with np.errstate(invalid="ignore", divide="ignore"):
        phi = np.corrcoef(on_a.T, on_b.T)[: a.shape[1], a.shape[1] :]
    both = on_a.T.astype(int) @ on_b.astype(int)
    return np.where(both >= FEWEST, phi, np.nan)


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("at_once", [1, 500, 1 << 23])
def test_correlations_of_firing(same, at_once, monkeypatch):
    monkeypatch.setattr(module, "_AT_ONCE", at_once)
    a = sparse(0, density=0.4)
    b = a if same else sparse(1, width=9, density=0.4)
    b[:, 2] = 1  # always on: says nothing
    shown = np.array([0, 3, 4, 7, 11])
    ids, phi = together(sp.csc_matrix(a), sp.csc_matrix(b), shown, 4, same)
    wanted = phi_of(a, b)
    if same:
        np.fill_diagonal(wanted, np.nan)
    for i, latent in enumerate(shown):
        best = [j for j in np.argsort(-wanted[latent], kind="stable") if wanted[latent, j] > 0][:4]
        assert ids[i].tolist() == best + [-1] * (4 - len(best))
        np.testing.assert_allclose(phi[i, : len(best)], wanted[latent, best], rtol=1e-5)
        assert not phi[i, len(best) :].any()
    assert (ids[0] >= 0).any() and ids[-1].tolist() == [-1] * 4  # the last never fires


def test_what_fires_together_twice_alone_is_no_pair():
    z = np.zeros((50, 4), np.float32)
    z[[3, 9], 0] = z[[3, 9], 1] = 1  # always together, on two rows
    z[[5, 6, 7], 2] = z[[5, 6, 7], 3] = 1  # on three
    ids, phi = together(sp.csc_matrix(z), sp.csc_matrix(z), np.arange(4), 1, True)
    assert ids.ravel().tolist() == [-1, -1, 3, 2] and phi.ravel().tolist() == [0, 0, 1, 1]


def test_fewer_others_than_are_asked_for():
    a = sparse(density=0.5)
    ids, _ = together(sp.csc_matrix(a), sp.csc_matrix(a[:, :3]), np.arange(12), 8, False)
    assert ids.shape == (12, 8) and (ids < 3).all() and (ids[0] == 0).any()


def test_rows_are_thinned_to_what_may_be_spent():
    a, b = sparse(0), sparse(1, width=9)
    matrices = {"a": sp.csc_matrix(a), "b": sp.csc_matrix(b)}
    cost = np.square((a != 0).sum(1) + (b != 0).sum(1)).sum()
    assert thinned(matrices, int(cost))["a"] is matrices["a"]
    found = thinned(matrices, int(cost / 2.5))
    np.testing.assert_array_equal(found["a"].toarray(), a[::3])
    np.testing.assert_array_equal(found["b"].toarray(), b[::3])


def test_nearest_rows_are_those_of_the_largest_cosine():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((60, 5)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[7] = 0  # has no direction
    rows[20:26] = rows[20]  # one direction six times
    shown = np.array([0, 7, 21, 25, 59])
    ids, cosines = nearest(rows, shown, 3)
    wanted = rows @ rows.T
    np.fill_diagonal(wanted, -1)
    for i, latent in enumerate(shown):
        np.testing.assert_allclose(cosines[i], np.maximum(np.sort(wanted[latent])[::-1][:3], 0), atol=1e-6)
        there = ids[i] >= 0
        np.testing.assert_allclose(wanted[latent, ids[i][there]], cosines[i][there], atol=1e-6)
        assert latent not in ids[i] and there.all() == (latent != 7)
    assert not cosines[1].any()


def test_the_largest_products_above_0():
    rows, others = np.array([[1, 0], [-1, 0]], np.float32), np.array([[2, 1], [1, 0], [-3, 0]], np.float32)
    ids, products = largest(rows, others, 4, "products", "row")
    assert ids.tolist() == [[0, 1, -1, -1], [2, -1, -1, -1]] and products.tolist() == [[2, 1, 0, 0], [3, 0, 0, 0]]
    assert largest(rows, others, 0, "products", "row")[0].shape == (2, 0)
