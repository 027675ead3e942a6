"""Exact top-k of an array that stands in memory, without sorting all of it: buckets by the argument of `xla.py`."""

import jax
import jax.numpy as jnp

from jaxsae.kernels.encode_topk.stream import TopK


def top_k(values: jax.Array, k: int) -> TopK:
    """As `jax.lax.top_k` of values [R, T], ties by lowest index, sorting about 2 sqrt(T k) entries of a row.

    The k best lie in the k buckets with the largest maxima; T / b maxima and k b candidates are the fewest
    for b = sqrt(T / k).
    """
    rows, total = values.shape
    bucket = 1
    while (bucket * 2) ** 2 * k <= total and total % (bucket * 2) == 0:
        bucket *= 2
    if bucket < 4:
        return jax.lax.top_k(values, k)
    buckets = values.reshape(rows, total // bucket, bucket)
    best = jnp.sort(jax.lax.top_k(buckets.max(-1), k)[1], -1)  # in index order, so that top_k's ties fall to the left
    candidates = jnp.take_along_axis(buckets, best[:, :, None], 1).reshape(rows, k * bucket)
    values, at = jax.lax.top_k(candidates, k)
    return values, jnp.take_along_axis(best, at // bucket, 1) * bucket + at % bucket
