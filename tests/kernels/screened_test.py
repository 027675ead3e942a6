"""The screening in bfloat16: its bounds hold, what it cannot tell apart is repaired, and that is rare."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsae.kernels.encode_topk import reference, screened
from jaxsae.kernels.encode_topk.parts import largest_bounds
from jaxsae.kernels.encode_topk.parts.certificate import certify


def test_a_screening_that_cannot_tell_latents_apart_is_repaired():
    rng = np.random.default_rng(8)
    n, d, k = 600, 8, 5
    x, b = np.ones((40, d), np.float32), np.zeros(n, np.float32)
    w = np.full((n, d), 1024, np.float32)  # bfloat16 has 8 bits: 1,024 and 1,025 are one number there
    w[:, 0] += rng.permutation(n) % 4
    x[:20] = rng.integers(-4, 5, (20, d))
    values, indices = jax.jit(lambda *a: screened.encode_topk(*a, k))(x, w, b)
    expected_values, expected_indices = reference.encode_topk(x, w, b, k)
    np.testing.assert_array_equal(values, expected_values)
    np.testing.assert_array_equal(indices, expected_indices)


@pytest.mark.parametrize("exact_in_bfloat16", [False, True])
@pytest.mark.parametrize("scale", [1e-18, 1e-3, 1.0, 1e3, 1e15])
def test_the_screening_bounds_every_pre_activation(scale, exact_in_bfloat16):
    rng = np.random.default_rng(9)
    x, w = (rng.normal(size=s).astype(np.float32) for s in ((30, 300), (400, 300)))
    w[:100] *= 1e-4  # latents of very different lengths
    x, w = x * np.float32(scale), w
    if exact_in_bfloat16:  # rounding costs nothing then: what is left is the sums' own error
        x, w = (np.asarray(jnp.asarray(a, jnp.bfloat16), np.float32) for a in (x, w))
    bias = rng.normal(size=400).astype(np.float32) * np.float32(scale)
    left, right = jax.jit(screened.rows_of_x)(x), jax.jit(screened.latents)(w, bias)
    values, at = jax.jit(lambda *a: screened.bounds_of_tile(*a, 400, 1))(left.rows, right.rows)
    bounds = np.empty((30, 400))
    np.put_along_axis(bounds, np.asarray(at), np.asarray(values, np.float64), 1)
    exact = x.astype(np.float64) @ w.astype(np.float64).T + bias
    lengths = np.linalg.norm(x.astype(np.float64), axis=1)[:, None] * np.linalg.norm(w.astype(np.float64), axis=1)
    assert (bounds > exact).all()
    assert ((bounds - exact) < 0.01 * lengths + 1e-15 * (1 + scale)).all()  # and not by much


def test_few_rows_of_a_screening_need_repair():
    rng = np.random.default_rng(10)
    x, w = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((256, 256), (4096, 256)))
    flagged = lambda b: certify(*screened.screen(x, w, b, 16, screened.candidates_of(16, 256))[:2], b)[1]
    assert flagged(jnp.zeros(4096)).sum() < 16
    # fewer latents left than k: nothing to repair
    assert not flagged(jnp.where(jnp.arange(4096) < 10, 0, -jnp.inf)).any()


@pytest.mark.parametrize("bucket", [1, 4, 8, 16, 64])
@pytest.mark.parametrize("kind", ["random", "equal", "few values", "around 0", "left out", "descending"])
def test_keyed_top_k_drops_nothing_above_its_bound(bucket, kind):
    rng = np.random.default_rng(11)
    latents, rows, k = 2048, 7, 20
    table = rng.normal(size=(latents, rows)).astype(np.float32)
    if kind == "equal":
        table[:] = -3.5
    if kind == "few values":
        table = np.round(table)
    if kind == "around 0":
        table = (np.round(table) * 1e-40).astype(np.float32)
    if kind == "left out":
        table[rng.random(latents) < 0.995] = -np.inf  # some 10 are left
    if kind == "descending":
        table = np.sort(table, 0)[::-1].copy()
    values, at = jax.jit(lambda t: largest_bounds.top_k(t, k, bucket))(table)
    bound = np.asarray(largest_bounds.bound_on_dropped(values[:, -1]), np.float64)
    assert (np.diff(values, axis=1) <= 0).all()
    for row in range(rows):
        column, kept = table[:, row].astype(np.float64), np.asarray(at[row])
        real = kept[column[kept] > -np.inf]
        assert len(set(real)) == len(real)  # no entry twice
        np.testing.assert_allclose(values[row][: len(real)], column[real], rtol=2**-19, atol=2e-30)
        rest = np.delete(column, real)
        assert rest.max() <= bound[row]
        best = np.sort(column)[::-1][k - 1]
        assert np.isneginf(best) or bound[row] <= best + abs(best) * 2**-15 + 1e-28  # and is not far above


def test_equals_in_a_bucket_are_each_kept():
    """Of equal members, masking the largest of a bucket would hide the others."""
    table = np.zeros((512, 2), np.float32)
    table[64:72] = 5.0  # a whole bucket of equals, which are the best 8
    _, at = jax.jit(lambda t: largest_bounds.top_k(t, 8, 8))(table)
    assert (np.sort(at, 1) == np.arange(64, 72)).all()


def test_a_screening_whose_bounds_may_overflow_is_repaired():
    rng = np.random.default_rng(12)
    x, w = (rng.normal(size=s).astype(np.float32) for s in ((24, 128), (700, 128)))
    x[3] *= np.float32(1e19)
    w[5] *= np.float32(1e17)
    b = np.zeros(700, np.float32)
    b[9] = 2e38
    values, indices = jax.jit(lambda *a: screened.encode_topk(*a, 5))(x, w, b)
    expected_values, expected_indices = reference.encode_topk(x, w, b, 5)
    np.testing.assert_array_equal(indices, expected_indices)
    np.testing.assert_allclose(values, expected_values, rtol=1e-4)


@pytest.mark.parametrize("place", ["W_enc", "b_enc", "x"])
def test_nan_among_many_latents_is_visible(place):
    """XLA's CPU maximum drops NaN from 4,096 numbers on: what rests on one must not be taken for finite."""
    rng = np.random.default_rng(13)
    w, x, b = (rng.normal(size=s).astype(np.float32) for s in ((9000, 64), (40, 64), (9000,)))
    encode = jax.jit(lambda *a: screened.encode_topk(*a, 8))
    for number in rng.integers(0, 9000, 6):
        poisoned = {"W_enc": w.copy(), "b_enc": b.copy(), "x": x.copy()}
        if place == "x":
            poisoned["x"][number % 40, 5] = np.nan
            bad = np.arange(40) == number % 40
        else:
            poisoned[place].reshape(9000, -1)[number, 0] = np.nan
            bad = np.ones(40, bool)
        values, indices = encode(poisoned["x"], poisoned["W_enc"], poisoned["b_enc"])
        assert (np.isnan(values).all(1) == bad).all() and not np.isnan(values[~bad]).any()
        assert ((indices >= 0) & (indices < 9000)).all()
