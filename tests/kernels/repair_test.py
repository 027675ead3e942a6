"""Flagged rows are replaced, all of them, and no others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsae.kernels.encode_topk.parts.repair import repair
from jaxsae.kernels.encode_topk.reference import encode_topk


@pytest.mark.parametrize("bad", [0, 1, 7, 20])
def test_only_flagged_rows_are_replaced(bad):
    rng = np.random.default_rng(bad)
    x, w, b = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((20, 6), (50, 6), (50,)))
    flagged = np.zeros(20, bool)
    flagged[rng.choice(20, bad, replace=False)] = True
    poisoned = jnp.full((20, 4), jnp.nan), jnp.full((20, 4), -7, jnp.int32)
    exact = lambda rows: encode_topk(rows, w, b, 4)
    values, indices = jax.jit(lambda *a: repair(a[:2], a[2], x, exact, rows=3))(*poisoned, flagged)
    expected_values, expected_indices = exact(x)
    np.testing.assert_allclose(values[flagged], expected_values[flagged], rtol=1e-6)
    np.testing.assert_array_equal(indices[flagged], expected_indices[flagged])
    assert np.isnan(values[~flagged]).all() and (indices[~flagged] == -7).all()
