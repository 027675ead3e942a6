"""Top-k by chunks of latents: a matrix library's product, a library's top-k, a merge. The GPU baseline.

On a GPU the fast library top-k is the unstable one, which may keep any of several equal values. It is exact
all the same by one entry more: let v be the k + 1 largest values of a row, in order. Which values these are does
not depend on how ties are broken, and each chunk's own k + 1 largest contain its part of them. If v[k] < v[k-1],
no entry outside the first k has the value of one inside, so the first k are one set, and sorting them by
(value, index) is the stable order. Rows with v[k] = v[k-1] are flagged and selected again by a stable method.
"""

import inspect
from functools import partial

import jax
import jax.numpy as jnp

from jaxsae.kernels.encode_topk.parts import bucket_topk
from jaxsae.kernels.encode_topk.parts.certificate import settle
from jaxsae.kernels.encode_topk.parts.stream import Tiling, TopK, encode_by_tiles, show_nan
from jaxsae.kernels.products import products
from jaxsae.platform import target_platform

ROWS = 8192
TILE_NUMBERS = 2**27  # float32 numbers of a chunk's pre-activations: 512 MiB
HAS_UNSTABLE = "is_stable" in inspect.signature(jax.lax.top_k).parameters  # jax 0.11 and newer


def choose_tiling(batch: int, width: int) -> Tiling:
    """Chunks of `TILE_NUMBERS`."""
    rows = min(batch, ROWS)
    return Tiling(rows, min(width, TILE_NUMBERS // rows), 1)


def unstable_top_k(values: jax.Array, k: int) -> TopK:
    """The k largest of each row, descending; equal values in any order, of equal ones at the k-th any."""
    return jax.lax.top_k(values, k, is_stable=False)


def encode_topk(
    x: jax.Array, w_enc: jax.Array, b_enc: jax.Array, k: int, tiling: Tiling | None = None, top_k=None
) -> TopK:
    """As `reference.encode_topk`, with a workspace of one chunk of pre-activations.

    Args:
      top_k: of values [B, chunk], ties in any order. Default: JAX's unstable one on GPUs where it has one, elsewhere
        the stable one of `bucket_topk.py`, which sorts less than `jax.lax.top_k`.
    """
    tiling = tiling or choose_tiling(len(x), len(w_enc))
    width, b_enc = w_enc.shape[0], b_enc.astype(jnp.float32)
    stream = lambda k, top_k: encode_by_tiles(x, (w_enc, b_enc), k, tiling, partial(_top_k_of_chunk, top_k=top_k))
    if top_k is None and not (HAS_UNSTABLE and target_platform() == "gpu"):  # a stable one needs no certificate
        return show_nan(stream(k, bucket_topk.top_k), x, w_enc, b_enc)
    values, indices = stream(min(k + 1, width), top_k or unstable_top_k)
    dropped = values[:, k] if k < width else jnp.full(len(x), -jnp.inf)
    return settle(_in_order(values[:, :k], indices[:, :k]), dropped, x, w_enc, b_enc)


def _top_k_of_chunk(x: jax.Array, latents: tuple[jax.Array, jax.Array], k: int, bucket: int, top_k) -> TopK:
    w, bias = latents
    return top_k(products(x, w) + bias, k)


def _in_order(values: jax.Array, indices: jax.Array) -> TopK:
    """Sorted by descending value, then by ascending index."""
    negated, indices = jax.lax.sort((-values, indices), num_keys=2)
    return -negated, indices
