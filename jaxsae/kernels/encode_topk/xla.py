"""Streaming top-k of pre-activations in plain XLA: any device, workspace of one tile.

A tile is `rows` x `latents` pre-activations. Within a tile the selection is exact and cheap: the k largest
of a row lie in the k buckets (of `bucket` neighbouring latents) with the largest maxima. Proof, ties
included: let an entry e in bucket b belong to the k best by (value, lowest index) while b is not among
the k best buckets by (maximum, lowest id). Each of those k buckets holds an entry that is larger than e,
or equal and in a bucket to the left of b, hence with a lower index: k entries come before e, a contradiction.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

CHUNK_NUMBERS = 2**22  # pre-activations looked at together where some are not finite
LANES = (((1,), (1,)), ((), ()))  # x[B, d] . W[n, d] -> [B, n]


@dataclasses.dataclass(frozen=True)
class Tiling:
    """Rows and latents of a tile of pre-activations, and latents of a bucket (`latents` is a multiple of it)."""

    rows: int
    latents: int
    bucket: int


def choose_tiling(batch: int, width: int, k: int, platform: str) -> Tiling:
    """Tile sizes by platform: on CPU a tile that stays near the caches, elsewhere one that fills the matmul unit."""
    bucket = 64 if platform == "cpu" else 128
    rows = min(batch, 256 if platform == "cpu" else 4096)
    budget = (2**25 if platform == "cpu" else 2**28) // 4  # float32 entries in a tile
    latents = max(budget // rows, bucket)
    latents = min(-(-latents // bucket) * bucket, -(-width // bucket) * bucket)
    return Tiling(rows, latents, bucket)


def _top_k_of_tile(product: jax.Array, bias: jax.Array, k: int, bucket: int) -> tuple[jax.Array, jax.Array]:
    """Exact top-k of product [R, T] + bias [T]; buckets are used where they are whole and thin the row out.

    The sum is taken where it is needed, in the maxima and for the candidates: as an array of its own it
    would cost another pass through memory.
    """
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


def merge(left: tuple[jax.Array, jax.Array], right: tuple[jax.Array, jax.Array], k: int):
    """The k best of two lists; entries of `left` come first on ties, so it must hold the lower indices."""
    values = jnp.concatenate([left[0], right[0]], 1)
    indices = jnp.concatenate([left[1], right[1]], 1)
    values, at = jax.lax.top_k(values, k)
    return values, jnp.take_along_axis(indices, at, 1)


def _encode_rows(x: jax.Array, w_enc: jax.Array, b_enc: jax.Array, k: int, tiling: Tiling):
    """Top-k of one tile's rows over all latents, tile by tile of latents."""
    width = w_enc.shape[0]
    step = max(tiling.latents, -(-k // tiling.bucket) * tiling.bucket)  # the first tile must give k entries
    whole = max(width // step, 1)  # full tiles; what is left over is a smaller one of its own

    def tile(start, size: int, k_tile: int):
        w = jax.lax.dynamic_slice_in_dim(w_enc, start, size) if size < width else w_enc
        b = jax.lax.dynamic_slice_in_dim(b_enc, start, size) if size < width else b_enc
        product = jax.lax.dot_general(x, w, LANES, preferred_element_type=jnp.float32)
        values, indices = _top_k_of_tile(product, b, k_tile, tiling.bucket)
        return values, indices + start

    best = tile(0, min(step, width), k)
    if whole > 1:
        body = lambda best, j: (merge(best, tile(j * step, step, min(k, step)), k), None)
        best, _ = jax.lax.scan(body, best, jnp.arange(1, whole))
    if width > step and width % step:
        rest = width - whole * step
        best = merge(best, tile(whole * step, rest, min(k, rest)), k)
    return best


def by_rows(encode: Callable, x: jax.Array, k: int, rows: int) -> tuple[jax.Array, jax.Array]:
    """`encode` on `rows` rows of x at a time, then on what is left; its (values, indices) [B, k] joined."""
    whole = x.shape[0] // rows * rows
    if whole == rows:
        parts = [encode(x[:whole])]
    else:
        tiles = jax.lax.map(encode, x[:whole].reshape(-1, rows, x.shape[1]))
        parts = [jax.tree.map(lambda a: a.reshape(whole, k), tiles)]
    if whole < x.shape[0]:
        parts.append(encode(x[whole:]))
    values, indices = (jnp.concatenate(p) for p in zip(*parts, strict=True))
    return values, indices


def has_nan(x: jax.Array, w_enc: jax.Array, b_enc: jax.Array) -> jax.Array:
    """bool [B, 1]: rows with a NaN pre-activation.

    A maximum over a tile does not show them: XLA's CPU reductions may drop NaN, as does any strict `>`. Where
    the sum of a row's pre-activations, x . sum_n W_n + sum_n b_n, is finite, none is NaN or infinite; where
    some row's is not, all are looked at, chunk by chunk.
    """
    columns = jnp.ones(w_enc.shape[0], w_enc.dtype) @ w_enc
    total = x.astype(jnp.float32) @ columns.astype(jnp.float32) + jnp.where(jnp.isneginf(b_enc), 0, b_enc).sum()
    some = ~jnp.isfinite(total).all()
    nan = jax.lax.cond(some, _nan_by_chunks, lambda x, *_: jnp.zeros(x.shape[0], bool), x, w_enc, b_enc)
    return nan[:, None]


def _nan_by_chunks(x: jax.Array, w_enc: jax.Array, b_enc: jax.Array) -> jax.Array:
    """bool [B]: rows with a NaN pre-activation, a chunk of latents after another; the last may overlap the one before."""
    width = w_enc.shape[0]
    size = min(width, max(1, CHUNK_NUMBERS // x.shape[0]))

    def chunk(number, nan):
        w, b = (jax.lax.dynamic_slice_in_dim(a, number * size, size) for a in (w_enc, b_enc))
        pre = jax.lax.dot_general(x, w, LANES, preferred_element_type=jnp.float32) + b
        return nan | jnp.isnan(pre).any(1)

    return jax.lax.fori_loop(0, -(-width // size), chunk, jnp.zeros(x.shape[0], bool))


def encode_topk(
    x: jax.Array, w_enc: jax.Array, b_enc: jax.Array, k: int, tiling: Tiling | None = None
) -> tuple[jax.Array, jax.Array]:
    """As `reference.encode_topk`, with a workspace of one tile of pre-activations."""
    batch, (width, _) = x.shape[0], w_enc.shape
    tiling = tiling or choose_tiling(batch, width, k, jax.default_backend())
    b_enc = b_enc.astype(jnp.float32)
    encode = lambda rows: _encode_rows(rows, w_enc, b_enc, k, tiling)
    values, indices = by_rows(encode, x, k, tiling.rows)
    return jnp.where(has_nan(x, w_enc, b_enc), jnp.nan, values), indices
