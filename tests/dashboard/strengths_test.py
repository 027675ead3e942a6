"""Frequencies, means, maxima and histograms against dense NumPy."""

import numpy as np
import pytest
import scipy.sparse as sp
from sparse_latents import sparse

from jaxsae.dashboard.strengths import Strengths, histogram, stretches


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("entries", [1, 50, 10_000])
def test_figures_of_latents(signed, entries, monkeypatch):
    z = sparse(signed=signed)
    monkeypatch.setattr(stretches, "__defaults__", (entries,))
    found, size, fires = Strengths.of(sp.csc_matrix(z)), np.abs(z), z != 0
    np.testing.assert_allclose(found.frequency, fires.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.mean, size.sum(0) / np.maximum(fires.sum(0), 1), rtol=1e-6)
    np.testing.assert_array_equal(found.most, size.max(0))
    assert found.count.tolist() == fires.sum(0).tolist() and found.count[-1] == 0


def test_stretches_are_all_columns_in_order(latents):
    for entries in (1, 30, 1000):
        found = list(stretches(latents.indptr, entries))
        assert [c for s in found for c in range(s.start, s.stop)] == list(range(latents.shape[1]))
        many = [s for s in found if latents.indptr[s.stop] - latents.indptr[s.start] > entries]
        assert all(s.stop == s.start + 1 for s in many)


def test_histograms_are_numpys():
    rng = np.random.default_rng(0)
    z = (rng.random((300, 5)) * (rng.random((300, 5)) < 0.4)).astype(np.float32)
    z[:, 4] = 0
    found = histogram(sp.csc_matrix(z), z.max(0), 7)
    for latent in range(4):
        own = z[:, latent][z[:, latent] > 0]
        assert found[latent].tolist() == np.histogram(own, 7, (0, own.max()))[0].tolist()
    assert found[4].tolist() == [0] * 7 and found.dtype == np.int32
