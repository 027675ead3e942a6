"""Streaming top-k of pre-activations for CPUs: tiles of latents x rows, three levels of buckets.

A tile of pre-activations is W x^T, [latents, rows], not x W^T: matrix libraries pack their right-hand side
anew for every product, and here that is a few rows of x, not all of W. Up to 32,768 latents its workspace fits the
last cache. The selection narrows each row down by the argument of `bucket_topk.py`, twice: the k best entries lie
in the k buckets with the largest maxima, and within those in the k sub-buckets with the largest maxima.
Maxima run along memory; what is gathered across it are k maxima's sub-buckets and k sub-buckets.
"""

import jax
import jax.numpy as jnp

from jaxsae.kernels.encode_topk.parts.bucket_topk import across, members_of
from jaxsae.kernels.encode_topk.parts.stream import LANES, Tiling, TopK, encode_by_tiles, show_nan

ROWS = 128
TILE_NUMBERS = 2**24  # float32 numbers of a tile, 64 MiB at most: 16 at 32,768 latents
BUCKETS = (64, 32, 16, 8, 4)
SUB_BUCKETS = 8  # of a bucket, from 16 latents on


def choose_tiling(batch: int, width: int, k: int) -> Tiling:
    """The largest buckets (1: none) of which there are well over k in a tile, as large as the cache takes."""
    rows = min(batch, ROWS)
    limit = min(width, max(TILE_NUMBERS // rows, k))
    bucket = next((b for b in BUCKETS if limit // b > 2 * k), 1)
    return Tiling(rows, limit // bucket * bucket, bucket)


def _top_k_of_tile(x: jax.Array, latents: tuple[jax.Array, jax.Array], k: int, bucket: int) -> TopK:
    """Exact top-k [R, k] of x[R, d] . w[T, d] + bias[T]; the sum is taken where it is read, for maxima, and never stored."""
    w, bias = latents
    product = jax.lax.dot_general(w, x, LANES, preferred_element_type=jnp.float32)  # [T, R]
    sums, (total, rows) = product + bias[:, None], product.shape
    if bucket == 1 or total % bucket or total // bucket <= k:
        return jax.lax.top_k(sums.T, k)
    fine = bucket // SUB_BUCKETS if bucket >= 2 * SUB_BUCKETS else bucket
    maxima = sums.reshape(-1, fine, rows).max(1)
    coarse = maxima.reshape(-1, bucket // fine, rows).max(1) if fine < bucket else maxima
    members = jnp.sort(jax.lax.top_k(coarse.T, k)[1], -1)  # in index order, so that top_k's ties fall to the left
    if fine < bucket:
        members = members_of(members, bucket // fine)
        best = jax.lax.top_k(across(maxima, members), k)[1]
        members = jnp.sort(jnp.take_along_axis(members, best, 1), -1)
    members = members_of(members, fine)
    values, at = jax.lax.top_k(across(product, members) + bias[members], k)
    return values, jnp.take_along_axis(members, at, 1)


def stream_topk(x: jax.Array, w_enc: jax.Array, b_enc: jax.Array, k: int, tiling: Tiling | None = None) -> TopK:
    """As `encode_topk`, but for rows with a NaN pre-activation, which may come out as anything."""
    latents = w_enc, b_enc.astype(jnp.float32)
    return encode_by_tiles(x, latents, k, tiling or choose_tiling(len(x), len(w_enc), k), _top_k_of_tile)


def encode_topk(x: jax.Array, w_enc: jax.Array, b_enc: jax.Array, k: int, tiling: Tiling | None = None) -> TopK:
    """As `reference.encode_topk`, with a workspace of one tile of pre-activations."""
    return show_nan(stream_topk(x, w_enc, b_enc, k, tiling), x, w_enc, b_enc)
