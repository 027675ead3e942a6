"""Cuts of tiles of pre-activations keep what a sort keeps, ties, limits of rows and meshes included."""

from functools import cache, partial

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import PartitionSpec as P

from jaxsae.kernels.tiles import batch_cut, row_cut
from jaxsae.parallel import DATA, MODEL, make_mesh

B, N, TILES = 16, 64, 2
MESHES = [(1, 1), (1, 8), (2, 4), (8, 1)]


@cache
def compiled(mesh_shape, cut):
    """What `cut(tiles, used, *limits)` keeps of pre-activations [B, N], whose latents stand in tiles on each device."""
    mesh = make_mesh(mesh_shape, jax.devices()[: mesh_shape[0] * mesh_shape[1]])

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(P(DATA, MODEL), P()), out_specs=P(DATA, MODEL), check_vma=False)
    def device(pre, limits):
        rows, latents = pre.shape
        tiles = pre.reshape(rows, TILES, latents // TILES).transpose(1, 0, 2)
        found = cut(tiles, TILES, *limits)
        each = [found.keep(tile, j * latents // TILES) for j, tile in enumerate(tiles)]
        return jax.numpy.concatenate(each, 1)

    return device


def kept(mesh_shape, pre: np.ndarray, cut, *limits: int) -> np.ndarray:
    """float32 [B, N]; limits are no constants, so that a mesh is compiled for once."""
    return np.asarray(compiled(mesh_shape, cut)(pre, limits))


def best(pre: np.ndarray, count: int) -> np.ndarray:
    """The `count` largest positive entries, equals by lowest index; 0 elsewhere."""
    out = np.zeros_like(pre)
    order = np.argsort(-pre.ravel(), kind="stable")[:count]
    out.ravel()[order] = np.maximum(pre.ravel()[order], 0)
    return out


def drawn(seed: int, spread: int) -> np.ndarray:
    """Pre-activations: whole numbers up to `spread`, of which many are equal, or any; some rows are much larger."""
    rng = np.random.default_rng(seed)
    pre = rng.integers(-spread, spread + 1, (B, N)) if spread else rng.normal(size=(B, N))
    return (pre * rng.choice([1, 1, 1, 100], (B, 1))).astype(np.float32)


@pytest.mark.parametrize("shape", MESHES)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), spread=st.sampled_from([0, 1, 3, 50]), k=st.sampled_from([1, 8, 40, N]))
def test_a_row_keeps_its_largest(shape, seed, spread, k):
    pre = drawn(seed, spread)
    expected = np.stack([best(row, k) for row in pre])
    np.testing.assert_array_equal(kept(shape, pre, row_cut, k), expected)


@pytest.mark.parametrize("shape", MESHES)
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    spread=st.sampled_from([0, 1, 3, 50]),
    total=st.sampled_from([1, 16, 128, 400, B * N]),
    limit=st.sampled_from([1, 5, 30, N]),
)
def test_a_batch_keeps_its_largest_within_the_limit_of_each_row(shape, seed, spread, total, limit):
    pre = drawn(seed, spread)
    expected = best(np.stack([best(row, limit) for row in pre]), total)
    found = kept(shape, pre, batch_cut, total, limit)
    np.testing.assert_array_equal(found, expected)
