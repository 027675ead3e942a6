"""Exact float32 top-k for CPUs that multiply bfloat16 faster: a screening in bfloat16, then the few that matter.

With x~, W~ rounded to bfloat16 and dx = x~ - x, dW = W~ - W, the error of a screened pre-activation is

    x~ . W~_n - x . W_n = dx . W~_n + x . dW_n,    so at most  e = |dx| |W~_n| + |x| |dW_n|    (Cauchy-Schwarz),

and x~ . W~_n + b_n + e is an upper bound on the float32 pre-activation. Bias and error are products, too: with a few
columns more, [b_n, |W~_n|, |dW_n|] beside W~_n and [1, |dx|, |x|] beside x~, the matmul gives the bound itself. A row's
K > k largest bounds are found by `largest_bounds.py`, and of those K the pre-activations are computed in float32.

A latent that is not among the K has a bound, hence a pre-activation, no larger than the K-th bound: where the k-th
float32 value is above that, the row is exact (`certificate.py`); the others are repaired by `cpu.py`.
"""

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import flax.struct
import jax
import jax.numpy as jnp

from jaxsae.kernels import pairs
from jaxsae.kernels.encode_topk import cpu
from jaxsae.kernels.encode_topk.parts import largest_bounds
from jaxsae.kernels.encode_topk.parts.certificate import settle
from jaxsae.kernels.encode_topk.parts.stream import LANES, TopK, encode_by_tiles

REPAIRED_ROWS = 16  # at a time: flags are rare, and a pass over W for so few is bound by memory
COLUMNS = 8  # beside the d of x~ and W~, three of them 0
ROUND_UP = 1 + 2**-6  # covers |dx| |dW|, and the rounding of the bound's own terms
LARGEST = 1e37  # |x| |W| and |b| below it: no sum overflows
BLOCK_NUMBERS = 2**19  # rounded at once
RANKED = 128  # candidates that are put in order by comparing each with each


@cache
def refused() -> str | None:
    """Why this machine gains nothing from the screening, or None."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return "no /proc/cpuinfo tells whether the processor multiplies bfloat16"
    return None if flags & {"avx512_bf16", "amx_bf16"} else "the processor has neither avx512_bf16 nor amx_bf16"


def pays(d: int, k: int) -> bool:
    """Whether the matmul saves more than selecting more than k costs."""
    return 64 <= d <= 3072 and k <= 128


def candidates_of(k: int, d: int) -> int:
    """K: as many as lie within a bound's slack of the k-th, with room for their spread.

    Pre-activations like a Gaussian's tail: the slack in their standard deviations grows with the root of d.
    """
    excess = k * math.expm1(0.25 * math.sqrt(d / 384))
    return k + math.ceil(excess + 2.5 * math.sqrt(excess) + 1)


@flax.struct.dataclass
class Factors:
    """Rows [m, d] as factors of bounds: the product of one of `rows_of_x` with one of `latents` is a bound.

    Attributes:
      rows: [m, d + COLUMNS], bfloat16 as bits: XLA's CPU backend cuts, joins and pastes bfloat16 as float32, all of it, there
        and back. length: float32 [m], of the rounded rows or more.
    """

    rows: jax.Array
    length: jax.Array


def rows_of_x(x: jax.Array) -> Factors:
    """[x~, 1, 1, 1, |dx|, |x|] of x [B, d]."""

    def columns(length, error):
        one = jnp.ones_like(length)
        return [one, one, one, _no_less(error), _no_less(length)]

    return _factors((x,), columns)


def latents(w_enc: jax.Array, bias: jax.Array) -> Factors:
    """[W~, b in three parts, |W~|, |dW|] of w_enc [n, d] and bias [n], where -inf gives bounds of -inf."""
    sums = (w_enc.shape[1] + COLUMNS) * 2.0**-23

    def columns(length, error, bias):
        raised = jnp.where(jnp.isneginf(bias), bias, bias + jnp.abs(bias) * sums)  # -inf + inf is NaN
        return [*_in_three(raised), _no_less(length), _no_less(error)]

    return _factors((w_enc, bias), columns)


def _factors(arrays: tuple[jax.Array, ...], columns: Callable[..., list[jax.Array]]) -> Factors:
    """`arrays` begin with the exact rows; `columns` takes lengths, errors and the others. Block by block, in the cache."""
    m, d = arrays[0].shape

    def block(part: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        exact, *others = part
        near = jax.lax.reduce_precision(exact, 8, 7)  # a cast there and back the compiler may leave out
        length, error = rounded_lengths(exact, near)
        beside = columns(length, error, *others)
        none = [jnp.zeros_like(length)] * (COLUMNS - len(beside))
        return jnp.concatenate([_bits(near), _bits(jnp.stack([*beside, *none], 1))], 1), length

    count = _blocks(m, d)
    parts = jax.lax.map(block, tuple(a.reshape(count, m // count, *a.shape[1:]) for a in arrays))
    return Factors(*(a.reshape(m, *a.shape[2:]) for a in parts))


def _bits(exact: jax.Array) -> jax.Array:
    """Numbers that bfloat16 holds as its bits."""
    return jax.lax.bitcast_convert_type(exact.astype(jnp.bfloat16), jnp.uint16)


def _blocks(m: int, d: int) -> int:
    """Of m rows, all alike: the fewest of at most BLOCK_NUMBERS numbers; 1 where blocks would be far smaller."""
    least = -(-m * d // BLOCK_NUMBERS)
    return next((count for count in range(least, 8 * least) if m % count == 0), 1)


def rounded_lengths(exact: jax.Array, near: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of the rows of near [m, d], and of near - exact with what sums err by: no less than they are, [m] each."""
    d, tiny = exact.shape[1], jnp.finfo(jnp.float32).tiny
    ones = jnp.ones(d, jnp.float32)  # XLA's CPU backend sums along memory number by number, unless it is a product
    sums = (near**2 @ ones, (near - exact) ** 2 @ ones)
    length, error = (jnp.sqrt((s + d * tiny) * (1 + d * 2.0**-23)) for s in sums)
    # A float32 sum of d products errs by less than d 2^-24 |x| |W|: here, where pairs may round once more, and in the check.
    return length, (error + (d + COLUMNS) * 2.0**-23 * length) * ROUND_UP


def _no_less(positive: jax.Array) -> jax.Array:
    """The next numbers up, or those after, that bfloat16 holds; in float32."""
    return jax.lax.reduce_precision(positive * (1 + 2**-7), 8, 7)


def _in_three(exact: jax.Array) -> list[jax.Array]:
    """float32 numbers as sums of three that bfloat16 holds; -inf is -inf and two zeros."""
    none = jnp.isneginf(exact)
    rest = jnp.where(none, 0, exact)
    parts = []
    for _ in range(3):
        parts.append(jax.lax.reduce_precision(rest, 8, 7))
        rest -= parts[-1]
    return [jnp.where(none, -jnp.inf, parts[0]), *parts[1:]]


def bounds_of_tile(x: jax.Array, w: jax.Array, k: int, bucket: int) -> TopK:
    """The k largest bounds [R, k] as `largest_bounds.top_k` gives them: of x [R, d + COLUMNS], w [T, d + COLUMNS]."""
    w, x = (jax.lax.bitcast_convert_type(bits, jnp.bfloat16) for bits in (w, x))
    return largest_bounds.top_k(jax.lax.dot_general(w, x, LANES, preferred_element_type=jnp.float32), k, bucket)


def screen(x: jax.Array, w_enc: jax.Array, b_enc: jax.Array, k: int, kept: int) -> tuple[TopK, jax.Array, jax.Array]:
    """Selects among the `kept` latents with the largest bounds.

    Returns:
      Values and indices of the best k; a bound on what was dropped [B], inf where the screening cannot be relied on;
      whether it can be for all rows, for which no pre-activation may be NaN or +inf.
    """
    left, right = rows_of_x(x), latents(w_enc, b_enc)
    tiling = cpu.choose_tiling(len(x), len(w_enc), kept)
    bounds, at = encode_by_tiles(left.rows, right.rows, kept, tiling, bounds_of_tile)
    values = pairs.all_dots(x, at, w_enc) + b_enc[at]
    # A maximum may drop NaN (`stream.has_nan`), so whether all are finite is asked for itself.
    largest = jnp.where(jnp.isneginf(b_enc), 0, jnp.abs(b_enc))
    small = jnp.isfinite(right.length).all() & (largest < LARGEST).all()
    reliable = (left.length * right.length.max() < LARGEST) & small
    dropped = jnp.where(reliable, largest_bounds.bound_on_dropped(bounds[:, -1]), jnp.inf)
    return _in_order(values, at, k), dropped, reliable.all()


def _in_order(values: jax.Array, at: jax.Array, k: int) -> TopK:
    """The k best of [B, K] by (value, lowest index): places by counting those before, which takes no sort."""
    if values.shape[1] > RANKED:
        at, values = jax.lax.sort((at, values), dimension=1, num_keys=1)
        best, place = jax.lax.top_k(values, k)
        return best, jnp.take_along_axis(at, place, 1)
    ahead = (values[:, None] > values[:, :, None]) | (
        (values[:, None] == values[:, :, None]) & (at[:, None] < at[:, :, None])
    )
    here = ahead.sum(2)[:, None] == jnp.arange(k)[:, None]  # [B, k, K]
    return tuple(jnp.where(here, a[:, None], 0).sum(2) for a in (values, at))


def encode_topk(x: jax.Array, w_enc: jax.Array, b_enc: jax.Array, k: int, kept: int | None = None) -> TopK:
    """As `reference.encode_topk`; inputs that are not float32 go straight to `cpu.py`."""
    kept = min(w_enc.shape[0], kept or candidates_of(k, x.shape[1]))
    if x.dtype != jnp.float32 or w_enc.dtype != jnp.float32 or kept == w_enc.shape[0]:
        return cpu.encode_topk(x, w_enc, b_enc, k)
    b_enc = b_enc.astype(jnp.float32)
    best, dropped, finite = screen(x, w_enc, b_enc, k, kept)
    return settle(best, dropped, x, w_enc, b_enc, cpu.stream_topk, REPAIRED_ROWS, finite)
