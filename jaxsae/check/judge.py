"""Results against float64 on the host: the largest error, what it may be, and in words what is wrong."""

import dataclasses

import numpy as np

from jaxsae.check.inputs import Inputs

# A float32 sum of m terms walks at random about the true one, by steps of half an ulp of its partial sums. Four times what
# that comes to is beyond any order of summation, and far below what cutting operands to 16 bits or fewer does. Products of
# bfloat16 operands, which nothing can cut, may be summed with truncation by matrix units, which walks one way.
SLACK = {"float32": 4, "bfloat16": 16}
SUMS_SLACK = 16  # of few terms, whose walk is less of one
ULP = 2.0**-24


@dataclasses.dataclass(frozen=True)
class Verdict:
    """error, bound: of the result that comes nearest its bound, or exceeds it most. wrong: what is, empty: nothing."""

    error: float
    bound: float
    wrong: str = ""

    @property
    def nearness(self) -> float:
        """How much of the bound the error takes; above everything where the result is wrong."""
        if self.wrong:
            return np.inf
        return self.error / self.bound if self.bound else 0.0


def worst(verdicts: list[Verdict]) -> Verdict:
    """The verdict nearest its bound."""
    return max(verdicts, key=lambda v: v.nearness)


def dense(x: np.ndarray, w_enc: np.ndarray, b_enc: np.ndarray) -> np.ndarray:
    """Pre-activations [B, n] in float64."""
    with np.errstate(invalid="ignore"):
        return x.astype(np.float64) @ w_enc.astype(np.float64).T + b_enc


def compare(what: str, found: np.ndarray, expected: np.ndarray, bound: np.ndarray | float) -> Verdict:
    """Numbers of any shape, each within its bound; NaN and infinities must stand where they are expected."""
    if np.shape(found) != np.shape(expected):
        return Verdict(np.inf, 0.0, f"{what}: of shape {np.shape(found)}, not {np.shape(expected)}")
    finite = np.isfinite(expected)
    found, bound = np.asarray(found, np.float64), np.where(finite, bound, 0.0)
    same = finite | (found == expected) | (np.isnan(found) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        error = np.where(finite, np.abs(found - expected), 0)
    off = ~same | ~(error <= bound)  # NaN where a number is expected is off, too
    if off.any():
        at = tuple(np.argwhere(off)[0])
        place = ", ".join(map(str, map(int, at)))
        largest = float(np.nanmax(np.where(off, error, 0)))
        first = f"the first at [{place}]: {found[at]:.9g} for {expected[at]:.9g}"
        return Verdict(largest, float(bound[at]), f"{what}: {off.sum():,} of {off.size:,} are off, {first}")
    if not error.size:
        return Verdict(0.0, 0.0)
    nearest = np.unravel_index(np.argmax(error / np.maximum(bound, 1e-300)), error.shape)
    return Verdict(float(error[nearest]), float(bound[nearest]))


def selection(
    values: np.ndarray, indices: np.ndarray, inputs: Inputs, k: int, rows: np.ndarray | None = None
) -> Verdict:
    """The k best of each row, as an encoder gives them, [B, k] each.

    Args:
      rows: those that are looked at, where the batch is too large for all; `inputs.x` holds only them.
    """
    if wrong := malformed(values, indices, len(inputs.w_enc)):
        return Verdict(np.inf, 0.0, wrong)
    if rows is not None:
        values, indices = values[rows], indices[rows]
    pre = dense(inputs.x, inputs.w_enc, inputs.b_enc)
    return _exact(values, indices, pre, k) if inputs.exact else _bounded(values, indices, pre, inputs, k)


def malformed(values: np.ndarray, indices: np.ndarray, width: int) -> str:
    """What no selection can look like, whatever it is of: types, places that are none, a latent twice, values that ascend."""
    if (values.dtype, indices.dtype) != (np.float32, np.int32):
        return f"values and indices: {values.dtype} and {indices.dtype}, not float32 and int32"
    off = (indices < 0) | (indices >= width)
    if off.any():
        return f"indices: {off.sum():,} of {indices.size:,} are not between 0 and {width - 1}, first in row {_row(off)}"
    numbers = ~np.isnan(values).any(1)  # what a row of NaN points at is of no account
    if (partly := ~numbers & ~np.isnan(values).all(1)).any():
        return f"values: row {int(np.argmax(partly))} is NaN in part"
    ordered = np.sort(indices, 1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & numbers[:, None]
    if twice.any():
        return f"indices: row {_row(twice)} holds a latent twice"
    ascends = (values[:, 1:] > values[:, :-1]) & numbers[:, None]
    return f"values: row {_row(ascends)} does not descend" if ascends.any() else ""


def _row(mask: np.ndarray) -> int:
    """The first row that is marked anywhere."""
    return int(np.argmax(mask.any(1)))


def _exact(values: np.ndarray, indices: np.ndarray, pre: np.ndarray, k: int) -> Verdict:
    """Whole numbers: values and indices are those of a stable sort. Indices of rows of NaN or -inf alone do not count."""
    nan = np.isnan(pre).any(1)
    order = np.argsort(-np.where(nan[:, None], 0, pre), axis=1, kind="stable")[:, :k]
    expected = np.where(nan[:, None], np.nan, np.take_along_axis(pre, order, 1))
    verdict = compare("values", values, expected, 0.0)
    if verdict.wrong:
        return verdict
    counted = ~nan & (pre > -np.inf).any(1)
    return compare("indices", indices[counted], order[counted].astype(np.float64), 0.0)


def _bounded(values: np.ndarray, indices: np.ndarray, pre: np.ndarray, inputs: Inputs, k: int) -> Verdict:
    """Gaussian numbers: each latent with its own value, none left out that is larger by more than rounding."""
    own = np.take_along_axis(pre, indices, 1)
    spread = np.sqrt(inputs.x.astype(np.float64) ** 2 @ (inputs.w_enc.astype(np.float64) ** 2).T)
    bounds = (
        SLACK[inputs.dtype] * np.sqrt(inputs.x.shape[1]) * ULP * (spread + np.where(np.isfinite(pre), np.abs(pre), 0))
    )
    bound = np.take_along_axis(bounds, indices, 1)
    verdict = compare("values", values, own, bound)
    if verdict.wrong or k == pre.shape[1]:
        return verdict
    rest = pre.copy()
    np.put_along_axis(rest, indices, -np.inf, 1)
    left, last = rest.max(1), own.min(1)
    missed = compare("latents left out", np.maximum(left, last), last, bound.max(1) + bounds.max(1))
    return worst([verdict, missed])


def sums_bound(squares: np.ndarray, terms: np.ndarray | int) -> np.ndarray:
    """What sums in float32 may be off by, given the sums of their terms' squares and how many terms there are."""
    return SUMS_SLACK * np.sqrt(np.maximum(terms, 1)) * ULP * np.sqrt(squares) + 1e-30
