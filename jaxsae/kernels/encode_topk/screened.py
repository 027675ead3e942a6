"""Exact float32 top-k for CPUs that multiply bfloat16 faster: a screening in bfloat16, then the few that matter.

With x~, W~ rounded to bfloat16 and dx = x~ - x, dW = W~ - W, the error of a screened pre-activation is

    x~ . W~_n - x . W_n = dx . W~_n + x . dW_n,    so at most  e = |dx| |W~_n| + |x| |dW_n|    (Cauchy-Schwarz),

and x~ . W~_n + b_n + e is an upper bound on the float32 pre-activation. A row's K > k largest bounds are found as
`cpu.py` finds pre-activations, and of those K the pre-activations are computed in float32.

A latent that is not among the K has a bound, hence a pre-activation, no larger than the K-th bound: where the k-th
float32 value is above that, the row is exact (`certificate.py`); the others are repaired by `cpu.py`.
"""

from functools import cache
from pathlib import Path

import flax.struct
import jax
import jax.numpy as jnp

from jaxsae.kernels import pairs
from jaxsae.kernels.encode_topk import cpu
from jaxsae.kernels.encode_topk.certificate import settle
from jaxsae.kernels.encode_topk.stream import LANES, TopK, encode_by_tiles

REPAIRED_ROWS = 16  # at a time: flags are rare, and a pass over W for so few is bound by memory
MIN_D, MAX_K = 512, 64  # below and above, selecting twice as many costs what the matmul saves
ROUND_UP = 1 + 2**-6  # covers |dx| |dW|, and the rounding of the bound's own terms
LARGEST = 1e37  # |x| |W| below it: no sum overflows


@cache
def refused() -> str | None:
    """Why this machine gains nothing from the screening, or None."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return "no /proc/cpuinfo tells whether the processor multiplies bfloat16"
    return None if flags & {"avx512_bf16", "amx_bf16"} else "the processor has neither avx512_bf16 nor amx_bf16"


def candidates_of(k: int) -> int:
    """K: as many as lie within a bound's slack of the k-th for Gaussian pre-activations, with room."""
    return 2 * k


@flax.struct.dataclass
class Rounded:
    """Rows in bfloat16 [m, d], their length [m], and a bound on that of their rounding errors and of sums' errors [m]."""

    rows: jax.Array
    length: jax.Array
    error: jax.Array


def rounded(exact: jax.Array) -> Rounded:
    """float32 rows [m, d], rounded, with norms that are no less than what they stand for."""
    d, tiny = exact.shape[1], jnp.finfo(jnp.float32).tiny
    near = jax.lax.reduce_precision(exact, 8, 7)  # a cast there and back the compiler may leave out
    both = lambda a, b: (a[0] + b[0], a[1] + b[1])  # one pass: two would store `near` for all of W
    squares = jax.lax.reduce((near * near, (near - exact) ** 2), (0.0, 0.0), both, (1,))
    length, error = (jnp.sqrt(s + d * tiny) for s in squares)  # where squares underflow, too
    # A float32 sum of d products errs by less than d 2^-24 |x| |W|: here, where pairs may round once more, and in the check.
    return Rounded(near.astype(jnp.bfloat16), length, (error + d * 2.0**-23 * length) * ROUND_UP)


def bounds_of_tile(x: Rounded, latents: tuple[Rounded, jax.Array], k: int, bucket: int) -> TopK:
    """The k largest bounds [R, k] of a tile's pre-activations."""
    w, bias = latents
    product = jax.lax.dot_general(w.rows, x.rows, LANES, preferred_element_type=jnp.float32)  # [T, R]
    slack = w.length[:, None] * x.error + w.error[:, None] * x.length

    def term(members):  # [R, C]
        return bias[members] + (w.length[members] * x.error[:, None] + w.error[members] * x.length[:, None])

    return cpu.top_k_by_buckets(product, product + (bias[:, None] + slack), term, k, bucket)


def screen(x: jax.Array, w_enc: jax.Array, b_enc: jax.Array, k: int, kept: int) -> tuple[TopK, jax.Array]:
    """Values and indices of the best k among the `kept` with the largest bounds, and a bound on what was dropped [B]."""
    left, right = rounded(x), rounded(w_enc)
    bounds, at = encode_by_tiles(
        left, (right, b_enc), kept, cpu.choose_tiling(len(x), len(w_enc), kept), bounds_of_tile
    )
    at = jnp.sort(at, 1)  # in index order, so that top_k's ties fall to the left
    values, best = jax.lax.top_k(pairs.all_dots(x, at, w_enc) + b_enc[at], k)
    last = bounds[:, -1]
    bound = last * jnp.where(last > 0, 1 + 2.0**-22, 1 - 2.0**-22)  # its own sums are rounded
    dropped = jnp.where(left.length * right.length.max() < LARGEST, bound, jnp.inf)
    return (values, jnp.take_along_axis(at, best, 1)), dropped


def encode_topk(x: jax.Array, w_enc: jax.Array, b_enc: jax.Array, k: int, kept: int | None = None) -> TopK:
    """As `reference.encode_topk`; inputs that are not float32 go straight to `cpu.py`."""
    kept = min(w_enc.shape[0], kept or candidates_of(k))
    if x.dtype != jnp.float32 or w_enc.dtype != jnp.float32 or kept == w_enc.shape[0]:
        return cpu.encode_topk(x, w_enc, b_enc, k)
    b_enc = b_enc.astype(jnp.float32)
    best, dropped = screen(x, w_enc, b_enc, k, kept)
    return settle(best, dropped, x, w_enc, b_enc, cpu.stream_topk, REPAIRED_ROWS)
