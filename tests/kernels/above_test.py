"""Latents above their thresholds, against a dense float64 reference, for every kernel that runs here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsae.errors import InputError
from jaxsae.kernels import encode_above

NAMES = ["screened", "cpu", "xla", "chunked", "reference"]


def draw(n=300, d=8, batch=20):
    rng = np.random.default_rng(n)
    x, w, b = (rng.integers(-3, 4, shape).astype(np.float32) for shape in ((batch, d), (n, d), (n,)))
    return x, w, b, rng.integers(0, 40, n).astype(np.float32)


def dense(x, w, b, theta):
    pre = x @ w.T + b
    return np.where(pre > theta, pre, 0)


def spread(values, indices, n):
    out = np.zeros((len(values), n), np.float32)
    rows = np.arange(len(values))[:, None]
    np.add.at(out, (rows, np.asarray(indices)), np.asarray(values))
    return out


@pytest.mark.parametrize("name", NAMES)
def test_all_above_the_threshold_are_given(name):
    x, w, b, theta = draw()
    expected = dense(x, w, b, theta)
    k_max = int((expected > 0).sum(1).max())
    call = jax.jit(lambda *a: encode_above(*a, k_max, name))
    values, indices, overflow = call(x, w, b, theta)
    np.testing.assert_array_equal(spread(values, indices, 300), expected)
    assert not overflow.any()


@pytest.mark.parametrize("theta", [0.0, 12.0])
def test_rows_with_more_are_flagged_and_hold_those_farthest_above(theta):
    x, w, b, _ = draw()
    expected = dense(x, w, b, theta)
    counts, k_max = (expected > 0).sum(1), 20
    values, indices, overflow = jax.jit(lambda *a: encode_above(*a, theta, k_max))(x, w, b)
    np.testing.assert_array_equal(overflow, counts > k_max)
    assert overflow.any()
    np.testing.assert_array_equal(values, -np.sort(-expected, 1)[:, :k_max])
    np.testing.assert_array_equal(np.take_along_axis(expected, np.asarray(indices), 1), values)


def test_no_row_of_all_latents_overflows_and_nan_stays():
    x, w, b, _ = draw(n=12)
    x[3, 0] = np.nan
    values, _, overflow = encode_above(x, w, b, -1e6, 12)
    assert np.isnan(values[3]).all() and np.isfinite(np.delete(values, 3, 0)).all()
    np.testing.assert_array_equal(np.sort(values[0]), np.sort(x[0] @ w.T + b))
    assert not overflow.any()


def test_thresholds_of_another_shape_are_refused():
    x, w, b, _ = draw(n=12)
    with pytest.raises(InputError, match="each of 12 latents"):
        encode_above(x, w, b, np.zeros(11, np.float32), 3)


def test_a_threshold_far_below_rounds_nothing_away():
    x, w, b, _ = draw(n=50)
    values, indices, _ = encode_above(x, w, b, -1e6, 50)
    np.testing.assert_array_equal(values, np.take_along_axis(x @ w.T + b, np.asarray(indices), 1))


def test_places_out_of_range_are_refused():
    x, w, b, _ = draw(n=12)
    for k_max in (0, 13):
        with pytest.raises(InputError, match="between 1 and the number of latents"):
            encode_above(jnp.asarray(x), jnp.asarray(w), jnp.asarray(b), 0.0, k_max)
