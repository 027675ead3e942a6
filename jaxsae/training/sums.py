"""Sums that tell whether an array's bits are those that were written."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec


def sums_of_bits(parts: Any) -> dict[str, int]:
    """Path -> sum over an array's numbers of their bits, each times an odd number of its place, modulo 2^32.

    The same on every mesh; no single flipped bit leaves it as it is.
    """
    meshes = {
        a.sharding.mesh for a in jax.tree.leaves(parts) if isinstance(getattr(a, "sharding", None), NamedSharding)
    }
    place = NamedSharding(meshes.pop(), PartitionSpec()) if meshes else None  # so that every process has them all
    sums = jax.device_get(_summed(place)(parts))
    return {jax.tree_util.keystr(path): int(s) for path, s in jax.tree_util.tree_leaves_with_path(sums)}


@functools.lru_cache(8)
def _summed(place: NamedSharding | None):
    # Kept, so that each save and each load after the first of a shape finds it compiled.
    return jax.jit(lambda tree: jax.tree.map(_sum_of_bits, tree), out_shardings=place)


def _sum_of_bits(x: jax.Array) -> jax.Array:
    bits = jax.lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * x.dtype.itemsize}")).astype(jnp.uint32)
    place = jnp.zeros(x.shape, jnp.uint32)
    for axis, size in enumerate(x.shape):
        place = place * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
    return (bits * (2 * place + 1)).sum(dtype=jnp.uint32)
