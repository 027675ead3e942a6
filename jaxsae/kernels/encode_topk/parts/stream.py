"""Goes through all latents for a few rows at a time, tile by tile, and keeps each row's k best.

What a tile is, how its pre-activations are laid out and how they are searched is `xla.py`'s and `cpu.py`'s
affair; workspace is one tile's.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxsae.kernels.products import products

CHUNK_NUMBERS = 2**22  # pre-activations looked at together where some are not finite
LANES = (((1,), (1,)), ((), ()))  # a[M, d] . b[N, d] -> [M, N]

TopK = tuple[jax.Array, jax.Array]  # values float32 [B, k], indices int32 [B, k]
Latents = Any  # a pytree of arrays by latent


@dataclasses.dataclass(frozen=True)
class Tiling:
    """Rows and latents of a tile of pre-activations, and latents of a bucket (`latents` is a multiple of it)."""

    rows: int
    latents: int
    bucket: int


def encode_by_tiles(x: jax.Array, latents: Latents, k: int, tiling: Tiling, top_k_of_tile: Callable[..., TopK]) -> TopK:
    """As `reference.encode_topk`, but for rows with a NaN pre-activation, which may come out as anything.

    Args:
      x: [B, any], of which a tile takes some rows. latents: arrays by latent, likewise.
      top_k_of_tile: (x, latents, k, bucket) -> a tile's own k best, ties by lowest index.
    """
    return _by_rows(lambda rows: _encode_rows(rows, latents, k, tiling, top_k_of_tile), x, k, tiling.rows)


def show_nan(best: TopK, x: jax.Array, w_enc: jax.Array, b_enc: jax.Array) -> TopK:
    """`best`, with NaN for all values of the rows that have a NaN pre-activation."""
    return jnp.where(has_nan(x, w_enc, b_enc), jnp.nan, best[0]), best[1]


def _by_rows(encode: Callable[[jax.Array], TopK], x: jax.Array, k: int, rows: int) -> TopK:
    """`encode` on `rows` rows of x at a time, then on what is left, joined."""
    batch = x.shape[0]
    whole = batch // rows * rows
    if whole == rows:
        parts = [encode(x[:whole])]
    else:
        tiles = x[:whole].reshape(-1, rows, x.shape[1])
        parts = [jax.tree.map(lambda a: a.reshape(whole, k), jax.lax.map(encode, tiles))]
    if whole < batch:
        parts.append(encode(x[whole:]))
    values, indices = (jnp.concatenate(p) for p in zip(*parts, strict=True))
    return values, indices


def _encode_rows(x: jax.Array, latents: Latents, k: int, tiling: Tiling, top_k_of_tile: Callable[..., TopK]) -> TopK:
    """Top-k of one tile's rows over all latents; what no whole tile covers is a smaller one of its own."""
    width = jax.tree.leaves(latents)[0].shape[0]
    step = min(width, max(tiling.latents, -(-k // tiling.bucket) * tiling.bucket))  # the first must give k entries

    def tile(start, size: int) -> TopK:
        cut = lambda a: jax.lax.dynamic_slice_in_dim(a, start, size) if size < width else a
        values, indices = top_k_of_tile(x, jax.tree.map(cut, latents), min(k, size), tiling.bucket)
        return values, indices + start

    best, whole = tile(0, step), width // step
    if whole > 1:
        body = lambda best, j: (merge(best, tile(j * step, step), k), None)
        best, _ = jax.lax.scan(body, best, jnp.arange(1, whole))
    return merge(best, tile(whole * step, width % step), k) if width % step else best


def merge(left: TopK, right: TopK, k: int) -> TopK:
    """The k best of two lists; entries of `left` come first on ties, so it must hold the lower indices."""
    values = jnp.concatenate([left[0], right[0]], 1)
    indices = jnp.concatenate([left[1], right[1]], 1)
    values, at = jax.lax.top_k(values, k)
    return values, jnp.take_along_axis(indices, at, 1)


def has_nan(x: jax.Array, w_enc: jax.Array, b_enc: jax.Array, known: jax.Array | bool = False) -> jax.Array:
    """bool [B, 1]: rows with a NaN pre-activation; where it is `known` that there are none, nothing is looked at.

    A maximum over a tile does not show them: XLA's CPU reductions may drop NaN, as does any strict `>`. Where
    |x| . sum_n |W_n| + sum_n |b_n|, no less than any pre-activation or part of its sum, is finite for a row, none of
    them is NaN or infinite; where some row's is not, all are looked at, chunk by chunk.
    """

    def look(x, w_enc, b_enc):
        columns = jnp.abs(w_enc.astype(jnp.float32)).sum(0)
        largest = jnp.where(jnp.isneginf(b_enc), 0, jnp.abs(b_enc)).sum()
        some = ~jnp.isfinite(jnp.abs(x.astype(jnp.float32)) @ columns + largest).all()
        return jax.lax.cond(some, _nan_by_chunks, none, x, w_enc, b_enc)

    none = lambda x, *_: jnp.zeros(x.shape[0], bool)
    nan = look(x, w_enc, b_enc) if known is False else jax.lax.cond(known, none, look, x, w_enc, b_enc)
    return nan[:, None]


def _nan_by_chunks(x: jax.Array, w_enc: jax.Array, b_enc: jax.Array) -> jax.Array:
    """bool [B]: rows with a NaN pre-activation, a chunk of latents after another; the last may overlap the one before."""
    width = w_enc.shape[0]
    size = min(width, max(1, CHUNK_NUMBERS // x.shape[0]))

    def chunk(number, nan):
        w, b = (jax.lax.dynamic_slice_in_dim(a, number * size, size) for a in (w_enc, b_enc))
        pre = products(x, w) + b
        return nan | jnp.isnan(pre).any(1)

    return jax.lax.fori_loop(0, -(-width // size), chunk, jnp.zeros(x.shape[0], bool))
