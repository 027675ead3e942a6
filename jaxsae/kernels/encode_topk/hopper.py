"""Top-k on Hopper GPUs: bucket lists from the matrix product's epilogue, a selection among them, a certificate.

`hopper_buckets.py` reduces each bucket of latents to its `keep` largest entries and the largest of the rest. The
k best of these lists lie in the k buckets with the largest first entries (the argument of `bucket_topk.py`); what the
lists do not hold is below the largest rest. A row whose largest rest is below its k-th value is exact, others are
repaired, so the result is always exact; `keep` makes repairs rare. No number of pre-activations proportional
to B x n stands in memory, and of their lists those of `Buckets.rows` rows at a time.
"""

import jax
import jax.numpy as jnp

from jaxsae.errors import InputError
from jaxsae.kernels.encode_topk import xla
from jaxsae.kernels.encode_topk.parts import bucket_topk
from jaxsae.kernels.encode_topk.parts.certificate import settle
from jaxsae.kernels.encode_topk.parts.hopper_buckets import (
    DEPTH,
    ROWS,
    TILE,
    Buckets,
    bias_of_tiles,
    bucket_best,
    choose_sizes,
    covered,
)
from jaxsae.kernels.encode_topk.parts.stream import TopK, merge
from jaxsae.platform import target

MAX_ROWS = 2048  # at d = 4096 their 16 MiB stay in the L2 cache, and W_enc is read from memory 2,048 / 2 flops a byte
LIST_NUMBERS = 2**27  # of the lists that stand at once: 512 MiB
MULTIPROCESSORS = 132  # of an H100 or H200 in its SXM form; only where the device does not say


def choose_buckets(batch: int, width: int, k: int) -> Buckets:
    """Sizes of buckets by width and k; rows such that their lists stay within `LIST_NUMBERS`."""
    size, keep = choose_sizes(width, k)
    buckets = Buckets(size, keep, rows=0)
    of_a_row = buckets.count(width) * (keep + -(-keep // 4) + 2)  # values, places, rests, first values turned
    step = ROWS * buckets.cluster
    rows = max(step, min(MAX_ROWS, LIST_NUMBERS // of_a_row) // step * step)
    parts = -(-batch // rows)
    return Buckets(size, keep, -(-batch // (parts * step)) * step)


def refusal(x: jax.Array, w_enc: jax.Array, k: int, buckets: Buckets | None = None) -> str | None:
    """Which limit of the kernel these shapes or types exceed; None: it takes them."""
    (batch, d), width = x.shape, w_enc.shape[0]
    if x.dtype != jnp.bfloat16 or w_enc.dtype != jnp.bfloat16:
        return f"takes x and W_enc in bfloat16, not {x.dtype} and {w_enc.dtype} (wgmma would cut float32 to 10 bits)"
    if d % DEPTH:
        return f"takes d in multiples of {DEPTH}, the depth of a slice in shared memory: d is {d}"
    if width < TILE:
        return f"takes at least {TILE} latents, one tile: n is {width}"
    buckets = buckets or choose_buckets(batch, width, k)
    kept = buckets.count(covered(width)) * buckets.keep
    return f"keeps {kept} candidates of {width} latents, fewer than k = {k}" if kept < k else None


def encode_topk(
    x: jax.Array, w_enc: jax.Array, b_enc: jax.Array, k: int, buckets: Buckets | None = None, interpret=None
) -> TopK:
    """As `reference.encode_topk`, for bfloat16 inputs.

    Args:
      buckets: default `choose_buckets`.
      interpret: an `InterpretGPUParams`: run on a CPU, slowly.

    Raises:
      InputError: no Hopper GPU, or shapes or types that the kernel does not take.
    """
    device = target()
    if interpret is None and not device.is_hopper:
        raise InputError(f"mosaic_gpu needs a Hopper GPU (no other has wgmma): this is {device.kind!r}; use chunked")
    why = refusal(x, w_enc, k, buckets)
    if why:
        raise InputError(f"mosaic_gpu {why}; use chunked")
    b_enc = b_enc.astype(jnp.float32)
    buckets = buckets or choose_buckets(len(x), len(w_enc), k)
    whole, width = covered(len(w_enc)), len(w_enc)
    best, dropped = _select(x, w_enc[:whole], b_enc[:whole], k, buckets, interpret)  # a copy where they are not all
    if whole < width:
        values, indices = xla.encode_topk(x, w_enc[whole:], b_enc[whole:], min(k, width - whole))
        best = merge(best, (values, indices + whole), k)
    return settle(best, dropped, x, w_enc, b_enc)


def _select(x, w_enc, b_enc, k: int, buckets: Buckets, interpret) -> tuple[TopK, jax.Array]:
    """The k best of the lists [B, k], and the largest value that was dropped [B]; `buckets.rows` rows at a time."""
    batch, d = x.shape
    parts = -(-batch // buckets.rows)
    padded = jnp.pad(x, ((0, parts * buckets.rows - batch), (0, 0)))
    bias = bias_of_tiles(b_enc)

    def part(rows):
        lists = bucket_best(rows, w_enc, bias, buckets, _multiprocessors(buckets, interpret), interpret)
        return _best_of_lists(*lists, k, buckets, len(w_enc))

    if parts == 1:
        values, indices, dropped = part(padded)
    else:
        out = jax.lax.map(part, padded.reshape(parts, buckets.rows, d))
        values, indices, dropped = (a.reshape(parts * buckets.rows, *a.shape[2:]) for a in out)
    return (values[:batch], indices[:batch]), dropped[:batch]


def _multiprocessors(buckets: Buckets, interpret) -> int:
    if interpret is not None:
        return buckets.cluster
    device = jax.sharding.get_abstract_mesh().abstract_device
    count = device.num_cores if device is not None else getattr(jax.devices()[0], "core_count", None)
    return count or MULTIPROCESSORS


def _best_of_lists(values, places, rest, k: int, buckets: Buckets, width: int):
    """values [R, k], indices [R, k], dropped [R] from the lists of `bucket_best`.

    Candidates stand in the order of their latents wherever two are equal: buckets ascend, and so do a bucket's equals.
    """
    keep, count, rows = values.shape
    _, best = bucket_topk.top_k(values[0].T, min(k, count))
    best = jnp.sort(best, -1)  # [R, K]
    of_best = lambda lists: jnp.take_along_axis(lists, best.T[None], 1).transpose(2, 1, 0)  # [L, N, R] -> [R, K, L]
    candidates = of_best(values).reshape(rows, -1)
    found, at = bucket_topk.top_k(candidates, k)
    slot, number = at % keep, at // keep
    words = of_best(places).reshape(rows, -1)
    word = jnp.take_along_axis(words, number * places.shape[0] + slot // 4, 1)
    place = buckets.size - 1 - (jnp.right_shift(word, 8 * (slot % 4)) & 255)
    return found, buckets.start(jnp.take_along_axis(best, number, 1), width) + place, rest.max(0)
