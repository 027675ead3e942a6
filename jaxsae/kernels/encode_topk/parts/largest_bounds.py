"""The K largest bounds of a tile, fast, where any K that are largest up to a few last bits will do.

The largest lie in the buckets with the largest maxima (`bucket_topk.py`), and those are found among the maxima of larger
buckets. XLA's top-k on CPU keeps a heap and pays for every number that enters it: the first numbers are best the
ones that stay. So of the members of the K buckets that were found, each bucket's largest come first, and then the
others. To tell which is a bucket's largest, equals included, the last bits of a member carry its place in the bucket.
"""

import jax
import jax.numpy as jnp

from jaxsae.kernels.encode_topk.parts.bucket_topk import across, members_of
from jaxsae.kernels.encode_topk.parts.stream import TopK

LOWEST = -3e38  # stands for -inf, whose last bits must not be touched
SMALLEST = 1e-30  # numbers nearer to 0 become it: last bits of less would be lost where denormal numbers count as 0
FINE = 8  # members of the smallest buckets


def top_k(table: jax.Array, k: int, bucket: int) -> TopK:
    """k entries of each column of table [T, R], in descending order: values [R, k], indices [R, k].

    Entries that are left out are no larger than `bound_on_dropped` of the last value.

    Args:
      table: float32, without NaN and +inf; -inf comes out as less than LOWEST / 2.
      bucket: entries of the largest buckets, a power of two; taken where it divides T into more than k.
    """
    entries, rows = table.shape
    bucket = bucket if entries % bucket == 0 and entries // bucket > k else 1
    fine = min(bucket, FINE)
    maxima = table.reshape(-1, fine, rows).max(1) if fine > 1 else table
    coarse = maxima.reshape(-1, bucket // fine, rows).max(1) if bucket > fine else maxima
    values, at = jax.lax.top_k(jnp.maximum(coarse, LOWEST).T, k)
    for within, size in ((maxima, bucket // fine), (table, fine)):
        if size > 1:
            values, at = _top_k_of_members(within, at, size, k)
    return values, at


def bound_on_dropped(last: jax.Array) -> jax.Array:
    """What no entry exceeds that `top_k` left out, where the last of those it gave is `last`."""
    # Each of the two levels moves a number by less than 2^-20 of it, up or down, or from near 0 to SMALLEST.
    return jnp.where(last < LOWEST / 2, -jnp.inf, last + jnp.abs(last) * 2.0**-17 + 8 * SMALLEST)


def _top_k_of_members(table: jax.Array, buckets: jax.Array, size: int, k: int) -> TopK:
    """Of column r of table [T, R]: the k largest among the members of buckets[r], [R, k], which are of `size` entries."""
    rows, count = buckets.shape
    values = _with_places(across(table, members_of(buckets, size)).reshape(rows, count, size))
    largest = values.max(-1)
    others = jnp.where(values == largest[:, :, None], -jnp.inf, values)
    best, at = jax.lax.top_k(jnp.concatenate([largest, others.reshape(rows, -1)], 1), k)
    bucket = jnp.take_along_axis(buckets, jnp.where(at < count, at, (at - count) // size), 1)
    return best, bucket * size + (jax.lax.bitcast_convert_type(best, jnp.int32) & (size - 1))


def _with_places(values: jax.Array) -> jax.Array:
    """float32 [..., size], no two of the last axis equal: the last bits hold the place there. `size` is a power of two."""
    size = values.shape[-1]
    values = jnp.maximum(jnp.where(jnp.abs(values) < SMALLEST, SMALLEST, values), LOWEST)
    bits = jax.lax.bitcast_convert_type(values, jnp.int32)
    return jax.lax.bitcast_convert_type((bits & -size) | jnp.arange(size), jnp.float32)
