"""Top-k on TPUs: lists of each bin's largest entries from a fused matmul, a certificate, a repair.

`tpu_bins.py` finds the k best of what its lists hold. A row is exact where all that the lists dropped is below its k-th
value; the others are repaired, so the result is always exact. How many entries a bin keeps makes repairs rare: k best
latents that fall on the bins at random overfill none, but for one row in 10,000. Latents behind the last whole tile
are a small matter for `xla.py`.
"""

import jax
import jax.numpy as jnp
from jax.experimental.pallas import tpu as pltpu

from jaxsae.errors import InputError
from jaxsae.kernels.encode_topk import xla
from jaxsae.kernels.encode_topk.parts.certificate import overfull, settle
from jaxsae.kernels.encode_topk.parts.stream import TopK, merge
from jaxsae.kernels.encode_topk.parts.tpu_bins import SUBLANES, VECTOR, Blocks, best_of_bins
from jaxsae.platform import target

ROWS = (1024, 512, 256, 128, 64)  # W_enc is read once for so many rows: more rows, less traffic
LATENTS = (2048, 1024, 512)
BINS = (512, 1024, 2048)
MAX_KEEP = 8
MAX_K = 512
REPAIRS = 1e-4  # of rows, for latents that fall on bins at random
PART = 256  # latents of a step: the width of the matrix unit
VMEM_SHARE = 0.8  # what blocks may take of VMEM; the compiler needs some itself


def choose_lists(k: int) -> tuple[int, int]:
    """Bins and entries of each: the fewest entries, since each costs the vector unit, then the fewest bins."""
    fitting = [(keep, b) for b in BINS for keep in range(2, MAX_KEEP + 1) if overfull(k, b, keep) < REPAIRS]
    keep, bins = min((keep * (1 + b // 2048), keep, b) for keep, b in fitting)[1:] if fitting else (MAX_KEEP, BINS[-1])
    return bins, keep


def choose_blocks(batch: int, width: int, d: int, k: int, itemsize: int, vmem: int) -> Blocks | None:
    """The largest blocks that fit into `vmem` bytes; None: none do."""
    bins, keep = choose_lists(k)
    for rows in ROWS:
        for latents in LATENTS:
            latents = max(latents, bins)
            unit = SUBLANES * (latents // PART)
            shortest = -(-batch // -(-batch // rows))  # as many blocks, of equal rows
            blocks = Blocks(-(-shortest // unit) * unit, latents, PART, bins, keep)
            if latents <= width and blocks.vmem_bytes(d, k, itemsize) <= VMEM_SHARE * vmem:
                return blocks
    return None


def refusal(x: jax.Array, w_enc: jax.Array, k: int, vmem: int) -> str | None:
    """Which limit of the kernel these shapes or types exceed; None: it takes them."""
    (batch, d), width = x.shape, w_enc.shape[0]
    if x.dtype != w_enc.dtype or x.dtype not in (jnp.bfloat16, jnp.float32):
        return f"takes x and W_enc both in bfloat16 or both in float32, not {x.dtype} and {w_enc.dtype}"
    if d % VECTOR:
        return f"takes d in multiples of {VECTOR}, the lanes of a vector: d is {d}"
    if k > MAX_K:
        return f"takes k up to {MAX_K}: k is {k}"
    least = max(LATENTS[-1], choose_lists(k)[0])
    if width < least:
        return f"takes at least {least} latents, one tile: n is {width}"
    if choose_blocks(batch, width, d, k, x.dtype.itemsize, vmem) is None:
        return f"needs more VMEM at d = {d} and k = {k} than this device's {vmem >> 20} MiB"
    return None


def vmem_bytes() -> int:
    """VMEM of one core of the TPU that is compiled for."""
    return pltpu.get_tpu_info().vmem_capacity_bytes


def encode_topk(
    x: jax.Array, w_enc: jax.Array, b_enc: jax.Array, k: int, blocks: Blocks | None = None, interpret=False
) -> TopK:
    """As `reference.encode_topk`, for bfloat16 or float32 inputs; products of float32 are made in full precision.

    Args:
      blocks: default `choose_blocks`.
      interpret: True or `pltpu.InterpretParams`: run without a TPU, slowly; needs `blocks`.

    Raises:
      InputError: no TPU, or shapes or types that the kernel does not take.
    """
    if not interpret and target().platform != "tpu":
        raise InputError(f"pallas_tpu needs a TPU: this is {target().kind!r}; use xla")
    vmem = vmem_bytes() if not interpret else 2**40
    if blocks is None:
        why = refusal(x, w_enc, k, vmem)
        if why:
            raise InputError(f"pallas_tpu {why}; use xla")
        blocks = choose_blocks(x.shape[0], w_enc.shape[0], x.shape[1], k, x.dtype.itemsize, vmem)
    b_enc = b_enc.astype(jnp.float32)
    batch, whole = x.shape[0], w_enc.shape[0] // blocks.latents * blocks.latents
    rows = jnp.pad(x, ((0, -batch % blocks.rows), (0, 0)))
    values, indices, dropped = (a[:batch] for a in best_of_bins(rows, w_enc, b_enc, k, blocks, vmem, interpret))
    best = values, indices
    if whole < w_enc.shape[0]:
        rest = min(k, w_enc.shape[0] - whole)
        values, indices = xla.encode_topk(x, w_enc[whole:], b_enc[whole:], rest)
        best = merge(best, (values, indices + whole), k)
    return settle(best, dropped, x, w_enc, b_enc)
