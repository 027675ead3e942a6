"""Latents that read one part each of a row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxsae.kernels import Request, encode_by_layer
from jaxsae.kernels.by_layer import narrowed, pre_products, pre_products_gradient, widened
from jaxsae.kernels.pairs import dots_by_layer
from jaxsae.kernels.select import select
from jaxsae.parallel import AXES, make_mesh

B, L, D, N = 24, 3, 5, 36


def dense(x, w_enc, b_enc=0.0):
    """float64 [B, n]."""
    parts = np.float64(x).reshape(len(x), L, D)
    return np.stack([parts[:, i % L] @ np.float64(row) for i, row in enumerate(w_enc)], 1) + b_enc


@pytest.fixture
def drawn():
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype(np.float32) for shape in ((B, L * D), (N, D), (N,))]


@pytest.mark.parametrize("k", [1, 7, N // L + 2, N])
def test_the_best_of_all_layers_are_those_of_all_pre_activations(drawn, k):
    x, w, b = drawn
    pre = dense(x, w, b)
    values, indices = encode_by_layer(*drawn, k)
    order = np.argsort(-pre, 1, kind="stable")[:, :k]
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_allclose(values, np.take_along_axis(pre, order, 1), rtol=1e-5, atol=1e-5)


def test_equal_ones_come_by_index_whatever_their_layers():
    x, w = np.ones((4, L * D), np.float32), np.ones((N, D), np.float32)
    bias = np.zeros(N, np.float32)
    bias[[5, 9, 20]] = 1.0
    values, indices = encode_by_layer(x, w, bias, 8)
    np.testing.assert_array_equal(indices, np.tile([5, 9, 20, 0, 1, 2, 3, 4], (4, 1)))
    np.testing.assert_allclose(values, np.tile([D + 1.0] * 3 + [D] * 5, (4, 1)))


def test_many_equal_ones_within_the_best_come_by_index(drawn):
    x, w, _ = drawn
    x[:], w[:] = np.round(x), np.round(w)  # few values, each many times
    pre = dense(x, w)
    for k in (9, 20):
        values, indices = encode_by_layer(x, w, np.zeros(N, np.float32), k)
        order = np.argsort(-pre, 1, kind="stable")[:, :k]
        there = np.take_along_axis(pre, order, 1) > 0
        np.testing.assert_array_equal(np.where(there, indices, -1), np.where(there, order, -1))
        assert (np.diff(values, axis=1) == 0)[there[:, 1:]].sum() > B


def test_nan_in_one_layer_shows_in_its_row_alone(drawn):
    x, w, b = drawn
    x[3, D + 1] = np.nan
    values = np.asarray(encode_by_layer(x, w, b, 4)[0])
    assert np.isnan(values[3]).all() and np.isfinite(np.delete(values, 3, 0)).all()


def test_products_and_their_gradient_are_those_of_each_latents_part(drawn):
    x, w, _ = drawn
    np.testing.assert_allclose(pre_products(x, w), dense(x, w), rtol=1e-5, atol=1e-5)
    g = np.random.default_rng(1).normal(size=(B, N)).astype(np.float32)
    expected = jax.grad(lambda w: (pre_products(x, w) * g).sum())(w)
    np.testing.assert_allclose(pre_products_gradient(g, x, w), expected, rtol=1e-5, atol=1e-5)
    numbers = np.random.default_rng(2).integers(0, N, size=(B, 4))
    of_pairs = dots_by_layer(jnp.asarray(x), jnp.asarray(numbers), jnp.asarray(w))
    np.testing.assert_allclose(of_pairs, np.take_along_axis(dense(x, w), numbers, 1), rtol=1e-5, atol=1e-5)


def test_widened_rows_read_the_same_and_narrow_again(drawn):
    x, w, _ = drawn
    latents = np.array([7, 3, 32, 12])
    wide = widened(jnp.asarray(w[latents]), jnp.asarray(latents % L), L)
    np.testing.assert_allclose(x @ wide.T, dense(x, w)[:, latents], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(narrowed(wide, jnp.asarray(latents % L), L), w[latents])


@pytest.mark.parametrize("shape", [(1, 1), (2, 2)])
@pytest.mark.parametrize("crowded", [False, True])
def test_a_batchs_best_are_those_of_all_candidates_however_full_a_layer_is(drawn, crowded, shape):
    x, w, b = drawn
    k, most = 2, 6  # a layer's first candidates are 2 most / L = 4 of a row
    if crowded:  # a row of which the batch keeps `most` latents of one layer
        w[1 : 1 + most * L : L] = 3 * x[5, D : 2 * D] + 0.1 * w[1 : 1 + most * L : L]
    mesh = make_mesh(shape, jax.devices()[: shape[0] * shape[1]])

    def device(x, w, b):
        found = select(x, w, b, None, Request(most, batch_total=k * B))
        latents = jnp.zeros((len(x), len(b))).at[jnp.arange(len(x))[:, None], found.indices].add(found.values)
        return latents

    specs = (P("data"), P("model"), P("model")), P(*AXES)
    latents = jax.jit(jax.shard_map(device, mesh=mesh, in_specs=specs[0], out_specs=specs[1], check_vma=False))(x, w, b)
    pre = dense(x, w, b)
    candidates = np.where(pre >= -np.sort(-pre, 1)[:, [most - 1]], np.maximum(pre, 0), 0)
    expected = np.where(candidates >= np.sort(candidates.reshape(-1))[-k * B], candidates, 0)
    of_layers = (expected > 0).reshape(B, -1, L).sum(1)
    assert (of_layers.max() > 2 * most / L) == crowded
    np.testing.assert_allclose(latents, expected, rtol=1e-5, atol=1e-5)
