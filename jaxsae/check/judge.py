"""Results against float64 on the host: the largest error, what it may be, and in words what is wrong."""

import dataclasses

import numpy as np

from jaxsae.check.inputs import Inputs

# A float32 sum of m terms walks at random about the true one, by steps of half an ulp of its partial sums. Sixteen times what
# that comes to is far beyond any order of summation, and less than what cutting operands to TF32 or bfloat16 does (at d
# 4,096 a quarter of the former).
SLACK = 16
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
    found, bound = np.asarray(found, np.float64), np.broadcast_to(bound, np.shape(expected))
    finite = np.isfinite(expected)
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
    if rows is not None:
        values, indices = values[rows], indices[rows]
    width = len(inputs.w_enc)
    if ((indices < 0) | (indices >= width)).any():
        off = ((indices < 0) | (indices >= width)).sum()
        return Verdict(np.inf, 0.0, f"indices: {off:,} of {indices.size:,} are not between 0 and {width - 1}")
    pre = dense(inputs.x, inputs.w_enc, inputs.b_enc)
    return _exact(values, indices, pre, k) if inputs.exact else _bounded(values, indices, pre, inputs, k)


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
    """Gaussian numbers: distinct latents, each with its own value, none left out that is larger by more than rounding."""
    ordered = np.sort(indices, 1)
    if (ordered[:, 1:] == ordered[:, :-1]).any():
        row = int(np.argwhere((ordered[:, 1:] == ordered[:, :-1]).any(1))[0, 0])
        return Verdict(np.inf, 0.0, f"indices: row {row} holds a latent twice")
    if (np.diff(values, axis=1) > 0).any():
        row = int(np.argwhere((np.diff(values, axis=1) > 0).any(1))[0, 0])
        return Verdict(np.inf, 0.0, f"values: row {row} does not descend")
    own = np.take_along_axis(pre, indices, 1)
    spread = np.sqrt(inputs.x.astype(np.float64) ** 2 @ (inputs.w_enc.astype(np.float64) ** 2).T)
    bounds = SLACK * np.sqrt(inputs.x.shape[1]) * ULP * (spread + np.abs(pre))
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
    return SLACK * np.sqrt(np.maximum(terms, 1)) * ULP * np.sqrt(squares) + 1e-30
