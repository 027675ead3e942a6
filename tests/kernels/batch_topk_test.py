"""BatchTopK's selection over all devices equals a sort of the whole batch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import PartitionSpec as P

from jaxsae.kernels.encode_topk import encode_topk, merge_over_batch
from jaxsae.parallel import DATA, MODEL, make_mesh

D, N, B = 4, 64, 16
MESHES = [(1, 1), (1, 8), (2, 4), (8, 1)]


def select(shape, x, w, b, per_row, total):
    """bool [B, N]: the pairs that are kept, as the devices of a mesh choose them."""
    mesh = make_mesh(shape, jax.devices()[: shape[0] * shape[1]])

    @jax.jit
    @partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(P(DATA), P(MODEL), P(MODEL)),
        out_specs=P(DATA, MODEL),
        check_vma=False,
    )
    def device(x, w, b):
        values, indices = encode_topk(x, w, b, min(per_row, w.shape[0]))
        rows = jnp.arange(x.shape[0])[:, None]
        return jnp.zeros((x.shape[0], w.shape[0]), bool).at[rows, indices].set(merge_over_batch(values, total))

    return np.asarray(device(x, w, b))


def dense(x, w, b, total):
    """The first `total` pairs by (value, lowest row, lowest latent)."""
    pre = x @ w.T + b
    kept = np.zeros(pre.size, bool)
    kept[np.argsort(-pre.ravel(), kind="stable")[:total]] = True
    return kept.reshape(pre.shape)


@pytest.mark.parametrize("shape", MESHES)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), total=st.sampled_from([1, 16, 128, B * N]), spread=st.sampled_from([0, 1, 50]))
def test_keeps_the_batchs_best_ties_included(shape, seed, total, spread):
    rng = np.random.default_rng(seed)
    x, w, b = (rng.integers(-spread, spread + 1, s).astype(np.float32) for s in ((B, D), (N, D), (N,)))
    np.testing.assert_array_equal(select(shape, x, w, b, N, total), dense(x, w, b, total))


def test_a_row_is_cut_at_its_own_limit():
    rng = np.random.default_rng(0)
    x, w, b = (rng.normal(size=s).astype(np.float32) for s in ((B, D), (N, D), (N,)))
    x[3] *= 100  # one row that would take nearly all
    kept = select((1, 1), x, w, b, 8, B * 4)
    assert kept.sum() == B * 4 and kept[3].sum() == 8


def test_nan_rows_are_kept_whole_and_take_no_other_rows_place():
    rng = np.random.default_rng(1)
    x, w, b = (rng.normal(size=s).astype(np.float32) for s in ((B, D), (N, D), (N,)))
    x[5, 0] = np.nan
    kept = select((2, 4), x, w, b, N, 40)
    others = np.delete(np.arange(B), 5)
    assert kept[5].all()
    np.testing.assert_array_equal(kept[others], dense(x[others], w, b, 40))
