"""Streaming top-k of pre-activations in plain XLA: any device, workspace of one tile.

A tile is `rows` x `latents` pre-activations, of which each row's best are found through buckets (`bucket_topk.py`).
"""

import jax
import jax.numpy as jnp

from jaxsae.kernels.encode_topk.parts import bucket_topk
from jaxsae.kernels.encode_topk.parts.stream import Tiling, TopK, encode_by_tiles, show_nan
from jaxsae.kernels.products import products

ROWS = 4096
TILE_NUMBERS = 2**26  # float32 numbers of a tile: one that fills the matmul unit
BUCKET = 128


def choose_tiling(batch: int, width: int) -> Tiling:
    """Tiles of `TILE_NUMBERS`, no wider than all latents in whole buckets."""
    rows = min(batch, ROWS)
    buckets = min(-(-max(TILE_NUMBERS // rows, BUCKET) // BUCKET), -(-width // BUCKET))
    return Tiling(rows, buckets * BUCKET, BUCKET)


def _top_k_of_tile(x: jax.Array, latents: tuple[jax.Array, jax.Array], k: int, bucket: int) -> TopK:
    """Exact top-k of x[R, d] . w[T, d] + bias[T]; buckets are used where they are whole and thin the row out."""
    w, bias = latents
    product = products(x, w)
    if len(w) % bucket or len(w) // bucket <= 2 * k:
        return jax.lax.top_k(product + bias, k)
    return bucket_topk.by_buckets(product, k, bucket, bias)


def encode_topk(x: jax.Array, w_enc: jax.Array, b_enc: jax.Array, k: int, tiling: Tiling | None = None) -> TopK:
    """As `reference.encode_topk`, with a workspace of one tile of pre-activations."""
    best = encode_by_tiles(
        x, (w_enc, b_enc.astype(jnp.float32)), k, tiling or choose_tiling(len(x), len(w_enc)), _top_k_of_tile
    )
    return show_nan(best, x, w_enc, b_enc)
