"""Inputs on which an encoder can go wrong, drawn anew for each check.

All but Gaussian ones are whole numbers, small enough that their products and sums are exact in any order and in
bfloat16's 8 bits: what comes out must equal the float64 reference in every value and every index, ties included. Gaussian
ones have all the bits of the type that a kernel gets, so that operands that were cut on the way show.
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

SPREAD = 3  # of whole numbers: x and W are in bfloat16 what they are here


@dataclasses.dataclass(frozen=True)
class Inputs:
    """x [B, d], W_enc [n, d], b_enc [n] in float32; `exact`: whole numbers; `dtype`: which x and W_enc are computed with."""

    x: np.ndarray
    w_enc: np.ndarray
    b_enc: np.ndarray
    exact: bool = True
    dtype: str = "float32"

    def rounded(self, dtype: str) -> "Inputs":
        """x and W_enc as `dtype` holds them: what the reference is to be computed from."""
        x, w_enc = (a.astype(jnp.dtype(dtype)).astype(np.float32) for a in (self.x, self.w_enc))
        return dataclasses.replace(self, x=x, w_enc=w_enc, dtype=dtype)


def whole(rng: np.random.Generator, batch: int, d: int, width: int) -> Inputs:
    """Whole numbers between -3 and 3: many ties."""
    draw = lambda *shape: rng.integers(-SPREAD, SPREAD + 1, shape, np.int8).astype(np.float32)
    return Inputs(draw(batch, d), draw(width, d), draw(width))


def gaussian(rng: np.random.Generator, batch: int, d: int, width: int) -> Inputs:
    """Normal numbers, biases among them."""
    draw = lambda *shape: rng.standard_normal(shape, np.float32)
    return Inputs(draw(batch, d), draw(width, d), draw(width), exact=False)


def all_equal(rng: np.random.Generator, batch: int, d: int, width: int) -> Inputs:
    """Every latent the same: the lowest indices are the best."""
    x = whole(rng, batch, d, width).x
    return Inputs(x, np.ones((width, d), np.float32), np.zeros(width, np.float32))


def one_bucket(rng: np.random.Generator, batch: int, d: int, width: int) -> Inputs:
    """The best lie side by side, and every 128th apart: in few buckets or bins, whichever a kernel has; rows need repair."""
    inputs = whole(rng, batch, d, width)
    start = int(rng.integers(0, max(1, width - 64)))
    inputs.b_enc[start : start + 64] += 500
    inputs.b_enc[start % 128 :: 128] += 500
    return inputs


def at_the_ends(rng: np.random.Generator, batch: int, d: int, width: int) -> Inputs:
    """The last latent is the best of each row, then the first, then the last whole one of tiles of several sizes."""
    inputs = whole(rng, batch, d, width)
    inputs.b_enc[-1] += 4000
    inputs.b_enc[0] += 3000
    for size in (8, 64, 256, 512):
        inputs.b_enc[max(0, width // size * size - 1)] += 1000
    return inputs


def masked(rng: np.random.Generator, batch: int, d: int, width: int) -> Inputs:
    """A tenth of the latents left in, the others' biases -inf, as AuxK selects among dead latents."""
    inputs = whole(rng, batch, d, width)
    inputs.b_enc[rng.random(width) < 0.9] = -np.inf
    return inputs


def few_left(rng: np.random.Generator, batch: int, d: int, width: int) -> Inputs:
    """Three latents left in: fewer than k."""
    inputs = whole(rng, batch, d, width)
    inputs.b_enc[np.delete(np.arange(width), rng.choice(width, min(3, width), replace=False))] = -np.inf
    return inputs


def not_finite(rng: np.random.Generator, batch: int, d: int, width: int) -> Inputs:
    """A row with NaN; one with Inf that meets zeros, which is NaN, too; one of -inf alone."""
    inputs = whole(rng, batch, d, width)
    nan, meets_zero, lowest = rng.choice(batch, 3, replace=False) if batch >= 3 else (0, 0, 0)
    x, w, column = inputs.x, inputs.w_enc, int(rng.integers(d))
    w[:, column] = rng.integers(0, 2, width)
    w[:, (column + 1) % d] = 2
    x[:, column] = 1
    x[meets_zero, column] = np.inf
    x[lowest, (column + 1) % d] = -np.inf
    x[nan, int(rng.integers(d))] = np.nan
    return inputs


def infinite_bias(rng: np.random.Generator, batch: int, d: int, width: int) -> Inputs:
    """A bias of +inf, which stands first in every row."""
    inputs = whole(rng, batch, d, width)
    inputs.b_enc[rng.integers(width)] = np.inf
    return inputs


def nan_bias(rng: np.random.Generator, batch: int, d: int, width: int) -> Inputs:
    """A bias of NaN: all rows are NaN."""
    inputs = whole(rng, batch, d, width)
    inputs.b_enc[rng.integers(width)] = np.nan
    return inputs


FAMILIES: dict[str, Callable[..., Inputs]] = {
    "ties": whole,
    "gaussian": gaussian,
    "all equal": all_equal,
    "one bucket": one_bucket,
    "at the ends": at_the_ends,
    "masked": masked,
    "few left": few_left,
    "not finite": not_finite,
    "infinite bias": infinite_bias,
    "NaN bias": nan_bias,
}
