"""The law of rare features: from which frequency on a dictionary of some width has a latent for a feature.

Of features with frequencies f, found or not, in a dictionary of n latents:

    P(found) = 1 / (1 + exp(-s (ln f - ln f50)))                f50, s: of one width
    f50(n)   = C n^-a                                           a, C, s: of several widths at once

both by maximum likelihood, s in (0, STEEPEST]: where all above some frequency are found and none below, the likelihood
rises with s without end, and f50 is anywhere in the gap. Intervals are those of the likelihood ratio (95%: all values at
which it, maximised over all else, is within 1.92 of its maximum); they hold in that case as well. What is left of an end
that reaches beyond the frequencies that were planted is None.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import brentq, minimize, minimize_scalar
from scipy.special import expit
from scipy.stats import chi2

STEEPEST, FLATTEST = 50.0, 1e-3
FARTHEST = 8.0  # from the likeliest exponent, as far as its interval is sought
_SEPARATE = 0.01  # a log-likelihood above minus this: found and not found do not overlap
DROP = chi2.ppf(0.95, 1) / 2
BEYOND = np.log(10.0)  # a decade past the frequencies that were planted is as far as f50 is sought


@dataclasses.dataclass(frozen=True)
class Threshold:
    """Of one width.

    Attributes:
      f50: frequency at which half are found; None where all or none are. interval: its ends, None where the frequencies do
        not bound it. slope: s. likelihood: of the fit, a log.
    """

    f50: float | None
    interval: tuple[float | None, float | None]
    slope: float | None
    likelihood: float


@dataclasses.dataclass(frozen=True)
class Power:
    """f50 = C n^-a over widths.

    Attributes:
      exponent: a, with its interval. slope: s. scale: C. test: P of a likelihood ratio as large or larger if the widths'
        f50 do follow such a law; None of two widths, through which there is always one.
    """

    exponent: float
    interval: tuple[float | None, float | None]
    slope: float
    scale: float
    test: float | None


def log_likelihood(found: np.ndarray, logits: np.ndarray) -> float:
    """Of bool [N] under sigmoid(logits)."""
    return float(-np.logaddexp(0, np.where(found, -logits, logits)).sum())


def _best_slope(found: np.ndarray, about: np.ndarray) -> tuple[float, float]:
    """(log-likelihood, s) of logits s * about, largest over s; it is concave in s."""
    cost = lambda s: -log_likelihood(found, s * about)
    best = minimize_scalar(cost, bounds=(FLATTEST, STEEPEST), method="bounded", options={"xatol": 1e-6})
    options = [(-best.fun, float(best.x)), *((-cost(s), s) for s in (FLATTEST, STEEPEST))]
    return max(options)


def _interval(
    profile: Callable[[float], float], best: float, top: float, low: float, high: float
) -> tuple[float | None, float | None]:
    """Where the profile falls DROP below its top on either side of `best`; None where it does not up to `low`, `high`."""
    below = lambda x: profile(x) - (top - DROP)
    ends = []
    for end in (low, high):
        ends.append(float(brentq(below, best, end, xtol=1e-4)) if below(end) < 0 <= below(best) else None)
    return ends[0], ends[1]


def fit_threshold(frequency: np.ndarray, found: np.ndarray) -> Threshold:
    """The law of one width.

    Args:
      frequency: float [N]. found: bool [N].
    """
    x, found = np.log(frequency), np.asarray(found, bool)
    low, high = x.min() - BEYOND, x.max() + BEYOND
    profile = lambda at: _best_slope(found, x - at)[0]
    if found.all() or not found.any():  # f50 is below, or above, all that were planted: one end is known
        mirrored = lambda at: profile(low + high - at)
        end = _last(profile if found.all() else mirrored, low, high)
        ends = (None, end) if found.all() else (None if end is None else low + high - end, None)
        return Threshold(None, tuple(None if e is None else float(np.exp(e)) for e in ends), None, 0.0)
    at, top = _top(profile, low, high)
    ends = _interval(profile, at, top, low, high)
    slope = _best_slope(found, x - at)[1]
    f50 = float(np.exp(at)) if low < at < high else None
    return Threshold(f50, tuple(None if e is None else float(np.exp(e)) for e in ends), slope, top)


def _top(profile: Callable[[float], float], low: float, high: float) -> tuple[float, float]:
    """Where a profile is largest; in the middle of where it is flat."""
    grid = np.linspace(low, high, 241)
    values = np.array([profile(at) for at in grid])
    best = values.max()
    flat = grid[values > best - 1e-6]
    if len(flat) > 1:
        return float((flat[0] + flat[-1]) / 2), float(best)
    i = int(values.argmax())
    ends = grid[max(0, i - 1)], grid[min(len(grid) - 1, i + 1)]
    found = minimize_scalar(lambda at: -profile(at), bounds=ends, method="bounded", options={"xatol": 1e-7})
    return (float(found.x), -float(found.fun)) if -found.fun > best else (float(grid[i]), float(best))


def _last(profile: Callable[[float], float], low: float, high: float) -> float | None:
    """The largest value within DROP of a log-likelihood of 0, which it comes to towards `low`."""
    below = lambda at: profile(at) + DROP
    return float(brentq(below, low, high, xtol=1e-4)) if below(high) < 0 <= below(low) else None


def fit_power(frequency: np.ndarray, width: np.ndarray, found: np.ndarray) -> Power | None:
    """The law of several widths; None where fewer than two have both features that were found and such that were not.

    Args:
      frequency, width: float [N]. found: bool [N].
    """
    x, found = np.log(frequency), np.asarray(found, bool)
    sizes = np.unique(width)
    if sum(0 < found[width == n].mean() < 1 for n in sizes) < 2:
        return None
    middle = np.log(sizes).mean()
    y, x_0 = np.log(width) - middle, x.mean()  # about their middles, so that the parameters hang little on each other
    both = np.stack([np.ones_like(x), x - x_0, y], 1)
    free, top = _most_likely(both, found)
    a = free[2] / free[1]
    given = lambda at: np.stack([np.ones_like(x), x - x_0 + at * y], 1)
    profile = lambda at: _most_likely(given(at), found)[1]
    top = max(top, profile(a))
    ends = _ends(profile, a, top)
    if top > -_SEPARATE and None not in ends:  # any exponent between gives all that was found
        a = sum(ends) / 2
    (offset, slope), _ = _most_likely(given(a), found)
    scale = float(np.exp(x_0 - offset / slope + a * middle))
    test = None
    if len(sizes) > 2:
        own = np.stack([np.float64(width == n) for n in sizes], 1)  # each width has an f50 of its own
        apart = _most_likely(np.concatenate([own[:, :1], (x - x_0)[:, None], own[:, 1:]], 1), found)[1]
        test = float(chi2.sf(2 * max(0.0, apart - top), len(sizes) - 2))
    return Power(float(a), ends, float(slope), scale, test)


def _most_likely(terms_NxP: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights of a logistic regression, that of the second term within FLATTEST and STEEPEST, and its log-likelihood, which
    is concave in them."""

    def cost(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logits = terms_NxP @ weights
        return -log_likelihood(found, logits), terms_NxP.T @ (expit(logits) - found)

    count = terms_NxP.shape[1]
    bounds = [(FLATTEST, STEEPEST) if term == 1 else (None, None) for term in range(count)]
    start = np.where(np.arange(count) == 1, 1.0, 0.0)
    fit = minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 2000, "ftol": 1e-12})
    return fit.x, -float(fit.fun)


def _ends(profile: Callable[[float], float], a: float, top: float) -> tuple[float | None, float | None]:
    """The interval of an exponent, sought outwards in growing steps."""
    ends: list[float | None] = []
    for sign in (-1, 1):
        step, inside, end = 0.05, a, None
        while end is None and abs(inside - a) < FARTHEST:
            outside = a + sign * step
            if profile(outside) < top - DROP:
                end = float(brentq(lambda at: profile(at) - (top - DROP), inside, outside, xtol=1e-4))
            inside, step = outside, 2 * step
        ends.append(end)
    return ends[0], ends[1]


def as_json(law: Threshold | Power | None) -> dict[str, Any] | None:
    """Its fields."""
    return None if law is None else dataclasses.asdict(law)
