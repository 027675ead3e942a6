"""Counting finds the same k best over all shards as gathering does."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxsae.kernels.encode_topk import api
from jaxsae.kernels.encode_topk.bisect import merge_by_bisection
from jaxsae.parallel import MODEL, make_mesh

B, SHARDS, LOCAL = 32, 8, 6


def merged(merge, values, k):
    """bool [B, SHARDS, LOCAL] from values of that shape, a shard each."""
    spec = P(None, MODEL, None)

    @jax.jit
    @partial(jax.shard_map, mesh=make_mesh((1, SHARDS)), in_specs=spec, out_specs=spec, check_vma=False)
    def device(v):
        return merge(v[:, 0], k)[:, None]

    return np.asarray(device(values))


def candidates(kind):
    """Each shard's list descends, as its selection gives it."""
    rng = np.random.default_rng()
    values = rng.normal(size=(B, SHARDS, LOCAL)).astype(np.float32)
    if kind == "ties":
        values = np.round(values)
    if kind == "extremes":
        values[rng.random(values.shape) < 0.3] = -np.inf
        values[rng.random(values.shape) < 0.1] = np.inf
    return -np.sort(-values, -1) + 0.0  # no -0.0: the two rules rank it differently


@pytest.mark.parametrize("kind", ["distinct", "ties", "extremes"])
@pytest.mark.parametrize("k", [1, 6, 17, SHARDS * LOCAL])
def test_equals_the_first_k_by_value_then_latent(kind, k):
    values = candidates(kind)
    order = np.argsort(-values.reshape(B, -1), axis=1, kind="stable")[:, :k]
    wanted = np.zeros((B, SHARDS * LOCAL), bool)
    np.put_along_axis(wanted, order, True, 1)
    np.testing.assert_array_equal(merged(merge_by_bisection, values, k).reshape(B, -1), wanted)


def test_rows_with_a_nan_keep_everything():
    values = candidates("distinct")
    values[3, 5, 0] = np.nan
    kept = merged(merge_by_bisection, values, 4)
    assert kept[3].all() and (np.delete(kept, 3, 0).sum((1, 2)) == 4).all()


def test_long_lists_are_not_gathered(monkeypatch):
    """The program that `merge_over_model` makes of them holds no array of all shards' candidates."""
    spec, shape = P(None, MODEL, None), (B, SHARDS, LOCAL)

    def gathers():
        device = lambda v: api.merge_over_model(v[:, 0], 4)[:, None]
        sharded = jax.shard_map(device, mesh=make_mesh((1, SHARDS)), in_specs=spec, out_specs=spec, check_vma=False)
        text = jax.jit(sharded).lower(jax.ShapeDtypeStruct(shape, jnp.float32)).as_text()
        return f"tensor<{SHARDS}x{B}x{LOCAL}xf32>" in text

    assert gathers()
    monkeypatch.setattr(api, "GATHERED", SHARDS * LOCAL - 1)
    assert not gathers()
