"""Decode and gradients of the Hopper kernels, by their interpreter, against float64; and what they take in memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsae.kernels import hopper_pairs, hopper_rows

params = pytest.importorskip("jax._src.pallas.mosaic_gpu.interpret.params")
INTERPRET = params.InterpretGPUParams()
D = 256


def selection(seed, batch, k, width):
    """Distinct latents in each row, about a third of their values 0."""
    rng = np.random.default_rng(seed)
    indices = np.stack([rng.choice(width, k, replace=False) for _ in range(batch)]).astype(np.int32)
    values = np.maximum(rng.normal(size=(batch, k)) + 0.4, 0).astype(np.float32)
    return values, indices, rng.normal(size=(batch, D)).astype(np.float32)


def dense(values, indices, width):
    out = np.zeros((len(values), width))
    np.put_along_axis(out, indices, values.astype(np.float64), 1)
    return out


@pytest.fixture(autouse=True)
def small_slabs(monkeypatch):
    monkeypatch.setattr(hopper_rows, "SLAB", 128)
    monkeypatch.setattr(hopper_rows, "SEGMENTS", 4)


def test_gradients_of_two_selections_equal_dense_sums():
    width = 19
    parts = [selection(0, 7, 5, width), selection(1, 7, 3, width)]
    for values, indices, _ in parts:
        values[indices == 4] = 0  # a latent without pairs
    parts[0][1][:, 0], parts[0][0][:, 0] = 18, 1.5  # one in every row: a long segment, the last
    for row in parts[0][1]:
        row[1:][row[1:] == 18] = 17
    found, totals = jax.jit(lambda p: hopper_pairs.outer_sums(p, width, INTERPRET))(parts)
    expected, sums = np.zeros((width, D)), np.zeros(width)
    for values, indices, rows in parts:
        for b, j in np.ndindex(values.shape):
            expected[indices[b, j]] += np.float64(values[b, j]) * rows[b]
            sums[indices[b, j]] += values[b, j]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(totals, sums, rtol=1e-5, atol=1e-6)
    assert not np.asarray(found)[4].any()


def test_pairs_that_are_not_active_are_never_read():
    values, indices, rows = selection(2, 6, 4, 12)
    values[2] = 0
    rows[2] = np.nan
    found, _ = jax.jit(lambda *p: hopper_pairs.outer_sums([p], 12, INTERPRET))(values, indices, rows)
    np.testing.assert_allclose(found, dense(values, indices, 12).T @ np.nan_to_num(rows), rtol=1e-5, atol=1e-5)


def test_nothing_active_gives_zeros():
    values, indices, rows = selection(3, 3, 4, 12)
    found, totals = jax.jit(lambda *p: hopper_pairs.outer_sums([p], 12, INTERPRET))(0 * values, indices, rows)
    assert not np.asarray(found).any() and not np.asarray(totals).any()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_decode_and_its_dual_equal_dense_products(dtype):
    values, indices, y = selection(4, 5, 6, 30)
    values[3] = 0
    table = jnp.asarray(np.random.default_rng(5).normal(size=(30, D)), dtype)
    exact = np.asarray(table, np.float64)
    decoded = jax.jit(lambda *a: hopper_pairs.gather_sum(*a, INTERPRET))(values, indices, table)
    np.testing.assert_allclose(decoded, dense(values, indices, 30) @ exact, rtol=1e-5, atol=1e-5)
    products = jax.jit(lambda *a: hopper_pairs.gather_dot(*a, INTERPRET))(y, values, indices, table)
    expected = np.where(values != 0, np.take_along_axis(y.astype(np.float64) @ exact.T, indices, 1), 0)
    np.testing.assert_allclose(products, expected, rtol=1e-4, atol=1e-4)


def test_rows_are_cut_into_the_widest_slabs_that_fit(monkeypatch):
    monkeypatch.setattr(hopper_rows, "SLAB", 1024)
    assert [hopper_rows.slab_of(d) for d in (4096, 2304, 768, 1152, 100)] == [1024, 768, 768, 384, None]
    assert not hopper_pairs.runs_here(4096)  # on a CPU
