"""Exact top-k of an array that stands in memory, without sorting all of it.

The k largest of a row lie in the k buckets (of `bucket` neighbouring entries) with the largest maxima. Proof, ties
included: let an entry e in bucket b belong to the k best by (value, lowest index) while b is not among
the k best buckets by (maximum, lowest id). Each of those k buckets holds an entry that is larger than e,
or equal and in a bucket to the left of b, hence with a lower index: k entries come before e, a contradiction.
"""

import jax
import jax.numpy as jnp

from jaxsae.kernels.encode_topk.parts.stream import TopK


def top_k(values: jax.Array, k: int) -> TopK:
    """As `jax.lax.top_k` of values [R, T], ties by lowest index, sorting about 2 sqrt(T k) entries of a row.

    T / b maxima and k b candidates are the fewest for buckets of b = sqrt(T / k).
    """
    total, bucket = values.shape[1], 1
    while (bucket * 2) ** 2 * k <= total and total % (bucket * 2) == 0:
        bucket *= 2
    return by_buckets(values, k, bucket) if bucket >= 4 else jax.lax.top_k(values, k)


def by_buckets(values: jax.Array, k: int, bucket: int, bias: jax.Array | None = None) -> TopK:
    """As `jax.lax.top_k` of values [R, T] + bias [T], through buckets, of which T must hold k or more, all whole.

    The sum is taken where it is needed, in the maxima and for the candidates: as an array of its own it
    would cost another pass through memory.
    """
    rows, total = values.shape
    buckets = values.reshape(rows, total // bucket, bucket)
    biases = None if bias is None else bias.reshape(total // bucket, bucket)
    maxima = (buckets if biases is None else buckets + biases).max(-1)
    best = jnp.sort(jax.lax.top_k(maxima, k)[1], -1)  # in index order, so that top_k's ties fall to the left
    candidates = jnp.take_along_axis(buckets, best[:, :, None], 1)
    candidates = candidates if biases is None else candidates + biases[best]
    found, at = jax.lax.top_k(candidates.reshape(rows, k * bucket), k)
    return found, jnp.take_along_axis(best, at // bucket, 1) * bucket + at % bucket


def across(table_TxR: jax.Array, at_RxC: jax.Array) -> jax.Array:
    """[R, C]: entries at[r, c] of column r."""
    return table_TxR[at_RxC, jnp.arange(at_RxC.shape[0])[:, None]]


def members_of(buckets_RxC: jax.Array, size: int) -> jax.Array:
    """[R, C * size]: what lies in buckets, in order."""
    members = buckets_RxC[:, :, None] * size + jnp.arange(size)
    return members.reshape(members.shape[0], -1)
