"""Streaming top-k of pre-activations in plain XLA: any device, workspace of one tile.

A tile is `rows` x `latents` pre-activations. Within a tile the selection is exact and cheap: the k largest
of a row lie in the k buckets (of `bucket` neighbouring latents) with the largest maxima. Proof, ties
included: let an entry e in bucket b belong to the k best by (value, lowest index) while b is not among
the k best buckets by (maximum, lowest id). Each of those k buckets holds an entry that is larger than e,
or equal and in a bucket to the left of b, hence with a lower index: k entries come before e, a contradiction.
"""

import jax
import jax.numpy as jnp

from jaxsae.kernels.encode_topk.stream import LANES, Tiling, TopK, encode_by_tiles, show_nan

ROWS = 4096
TILE_NUMBERS = 2**26  # float32 numbers of a tile: one that fills the matmul unit
BUCKET = 128


def choose_tiling(batch: int, width: int) -> Tiling:
    """Tiles of `TILE_NUMBERS`, no wider than all latents in whole buckets."""
    rows = min(batch, ROWS)
    buckets = min(-(-max(TILE_NUMBERS // rows, BUCKET) // BUCKET), -(-width // BUCKET))
    return Tiling(rows, buckets * BUCKET, BUCKET)


def _top_k_of_tile(x: jax.Array, latents: tuple[jax.Array, jax.Array], k: int, bucket: int) -> TopK:
    """Exact top-k of x[R, d] . w[T, d] + bias[T]; buckets are used where they are whole and thin the row out.

    The sum is taken where it is needed, in the maxima and for the candidates: as an array of its own it
    would cost another pass through memory.
    """
    w, bias = latents
    product = jax.lax.dot_general(x, w, LANES, preferred_element_type=jnp.float32)
    r, t = product.shape
    if t % bucket or t // bucket <= 2 * k:
        return jax.lax.top_k(product + bias, k)
    products, biases = product.reshape(r, t // bucket, bucket), bias.reshape(t // bucket, bucket)
    maxima = (products + biases).max(-1)
    best = jnp.sort(jax.lax.top_k(maxima, k)[1], -1)  # in index order, so that top_k's ties fall to the left
    candidates = jnp.take_along_axis(products, best[:, :, None], 1) + biases[best]
    values, at = jax.lax.top_k(candidates.reshape(r, k * bucket), k)
    indices = jnp.take_along_axis(best, at // bucket, 1) * bucket + at % bucket
    return values, indices


def encode_topk(x: jax.Array, w_enc: jax.Array, b_enc: jax.Array, k: int, tiling: Tiling | None = None) -> TopK:
    """As `reference.encode_topk`, with a workspace of one tile of pre-activations."""
    best = encode_by_tiles(
        x, (w_enc, b_enc.astype(jnp.float32)), k, tiling or choose_tiling(len(x), len(w_enc)), _top_k_of_tile
    )
    return show_nan(best, x, w_enc, b_enc)
