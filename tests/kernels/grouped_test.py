"""Sums over pairs block by block equal dense sums in float64, and `pairs.segment_outer`'s to the bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsae.kernels import PairList, group, grouped, pairs

D, WIDTH = 8, 50


def lists_of(seed, batch, ks, skew=1.0):
    """Selections over the same rows: distinct latents in a row, some of them not active."""
    rng = np.random.default_rng(seed)
    normal = lambda *shape: rng.normal(size=shape).astype(np.float32)
    odds = np.arange(1, WIDTH + 1) ** -skew
    x, out = normal(batch, D), []
    for k in ks:
        indices = np.stack([rng.choice(WIDTH, k, replace=False, p=odds / odds.sum()) for _ in range(batch)])
        values = np.maximum(normal(batch, k), 0)
        slopes = np.where(values > 0, normal(batch, k), 0).astype(np.float32)
        out.append(PairList(indices.astype(np.int32), values, slopes, x, normal(1, batch, D)))
    return out


in_blocks = jax.jit(group, static_argnums=(1, 2))
sums_of = jax.jit(lambda found, block, count: found.sums(block, count), static_argnums=2)


def block_sums(lists, size):
    """All blocks' sums, joined; compiled once for each block's number of latents."""
    found = in_blocks(lists, WIDTH, size)
    parts = [sums_of(found, b, min(size, WIDTH - b * size)) for b in range(-(-WIDTH // size))]
    return [np.concatenate(p) for p in zip(*parts, strict=True)]


def dense_sums(lists):
    dw_enc, db_enc, dw_dec = np.zeros((WIDTH, D)), np.zeros(WIDTH), np.zeros((WIDTH, D))
    for one in lists:
        for b, row in enumerate(one.indices):
            for j, latent in enumerate(row):
                dw_enc[latent] += np.float64(one.slopes[b, j]) * one.x[b]
                dw_dec[latent] += np.float64(one.values[b, j]) * one.dy[0, b]
                db_enc[latent] += one.slopes[b, j]
    return dw_enc, db_enc, dw_dec


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(grouped, "CHUNK", 16)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    batch=st.integers(1, 24),
    ks=st.sampled_from([(4,), (3, 9), (1,)]),
    size=st.sampled_from([1, 7, 25, WIDTH]),
    skew=st.sampled_from([0.0, 2.0]),
)
def test_sums_equal_dense_ones(seed, batch, ks, size, skew):
    lists = lists_of(seed, batch, ks, skew)
    for found, expected in zip(block_sums(lists, size), dense_sums(lists), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_one_list_gives_the_bits_of_the_whole_sum():
    (one,) = lists_of(3, 40, (6,), skew=1.5)
    found = block_sums([one], 7)[0]
    zero = jnp.zeros((WIDTH, D))
    with jax.set_mesh(jax.make_mesh((1, 1), ("data", "model"))):
        whole = jax.shard_map(pairs.segment_outer, in_specs=(jax.P(),) * 4, out_specs=jax.P(), check_vma=False)
        expected = jax.jit(whole)(zero, one.slopes, one.indices, one.x)
    np.testing.assert_array_equal(found, expected)


def test_pairs_that_are_not_active_are_never_read():
    (one,) = lists_of(4, 12, (6,))
    poisoned = one.replace(slopes=np.where(one.values > 0, one.slopes, np.nan))
    for found, expected in zip(block_sums([poisoned], 7), dense_sums([one]), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_numbers_that_do_not_fit_one_word_sort_the_same_way():
    block = jnp.asarray(np.random.default_rng(0).integers(0, 4, 1000), jnp.int32)
    order, starts = grouped.in_order(block, 3)
    wide_order, wide_starts = grouped.in_order(block, 2**23)  # 2^23 blocks and 2^10 pairs
    np.testing.assert_array_equal(order, wide_order)
    np.testing.assert_array_equal(starts, wide_starts[:4])
    np.testing.assert_array_equal(order, np.argsort(np.asarray(block), kind="stable"))
