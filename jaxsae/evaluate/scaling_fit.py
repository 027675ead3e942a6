"""Fits L(N, D) = E + A / N^a + B / D^b to the models of a family: Hoffmann et al. 2022 (arXiv 2203.15556), approach 3.

Huber's loss of 1e-3 on ln L. Where the entropy of the data is known, E is that and no constant to fit. How well the form
does is told by two residuals, of the models that it was fitted to and of each by a fit to the others; how much the
constants are worth by fits to models drawn anew (Efron 1979).
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from jaxsae.errors import InputError
from jaxsae.evaluate.scaling_curve import CONSTANTS, Curve
from jaxsae.numbers import is_positive

REPLICATES = 200  # fits to models drawn anew
_HUBER = 1e-3  # of ln L


def fit_curve(name: str, points: Any, where: str, floor: float | None = None, seed: int = 0) -> Curve:
    """Fits a curve to [[N, D, loss], ...], from 36 starts, or from 9 where the floor is known.

    Args:
      where: names the points in messages.
      floor: the entropy of the data, which then is E; with it come `rms_left_out`, `intervals` and `replicates`.
      seed: of the models that are drawn for these.

    Raises:
      InputError: fewer than 6 points, fewer than 3 different N or D, or values that are not positive; losses that are not
        above the floor.
    """
    rows = points if isinstance(points, list) else []
    if len(rows) < 6 or not all(isinstance(r, list) and len(r) == 3 and all(map(is_positive, r)) for r in rows):
        raise InputError(f"{where}: points must be at least 6 lists [N, D, loss] of positive numbers.")
    values = np.asarray(rows, np.float64)
    for what, column in (("N", values[:, 0]), ("D", values[:, 1])):
        if len(np.unique(column)) < 3:
            raise InputError(f"{where}: points need at least 3 different {what}, and have {len(np.unique(column))}.")
    if floor is not None and not (is_positive(floor) and floor < values[:, 2].min()):
        raise InputError(f"{where}: the floor, {floor!r}, must be a positive number below every loss of the points.")
    best, residuals = _solve(values, floor)
    curve = Curve(
        name,
        **dict(zip(CONSTANTS, best, strict=True)),
        reference=f"fitted to {len(rows)} points" + ("" if floor is None else ", E known"),
        points=len(rows),
        measured=(values[:, 2].min().item(), values[:, 2].max().item()),
        rms_log_residual=_rms(residuals),
    )
    if floor is None:
        return curve
    drawn = np.array([_solve(some, floor, best)[0] for some in _drawn(values, seed)])
    ends = np.quantile(drawn, [0.025, 0.975], axis=0)
    return dataclasses.replace(
        curve,
        exact=True,
        rms_left_out=_rms(left_out(values, floor)),
        intervals={c: ends[:, i].tolist() for i, c in enumerate(CONSTANTS) if c != "E"},
        replicates=tuple(map(tuple, drawn.tolist())),
    )


def left_out(points: np.ndarray, floor: float) -> np.ndarray:
    """[models]: ln of the loss that a fit to the others gives each of `points` [models, 3], over its own."""
    found = []
    for i, (n, d, loss) in enumerate(points):
        curve = Curve("", *_solve(np.delete(points, i, 0), floor)[0], reference="")
        found.append(math.log(float(curve.loss(n, d)) / loss))
    return np.array(found)


def _drawn(points: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """As many models, with repetition, REPLICATES times; sets that do not tell the constants are drawn again."""
    rng, made = np.random.default_rng([seed, 0xC04E]), 0
    while made < REPLICATES:
        some = points[rng.integers(len(points), size=len(points))]
        if all(len(np.unique(some[:, column])) >= 3 for column in (0, 1)) and len(np.unique(some, axis=0)) >= 5:
            made += 1
            yield some


def _rms(residuals: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(residuals))))


def _solve(
    points: np.ndarray, floor: float | None, near: tuple[float, ...] | None = None
) -> tuple[tuple[float, ...], np.ndarray]:
    """(E, A, B, a, b) and residuals of ln L, of the best start; `near`: constants that are the only one."""
    n, d, loss = points.T
    x, y, log_loss = np.log(n), np.log(d), np.log(loss)
    centre_x, centre_y = x.mean(), y.mean()  # without them A and a, B and b would go together
    known = 0 if floor is None else 1  # of the five parameters, from the front
    whole = lambda p: np.concatenate([[math.log(floor)], p]) if known else p

    def terms(p: np.ndarray) -> np.ndarray:
        return np.stack([p[0] + 0 * x, p[1] - p[3] * (x - centre_x), p[2] - p[4] * (y - centre_y)])

    def residual(p: np.ndarray) -> np.ndarray:
        return np.logaddexp.reduce(terms(whole(p))) - log_loss

    def jacobian(p: np.ndarray) -> np.ndarray:
        parts = terms(whole(p))
        shares = np.exp(parts - np.logaddexp.reduce(parts))
        return np.stack([*shares, -shares[1] * (x - centre_x), -shares[2] * (y - centre_y)], 1)[:, known:]

    def starts() -> Iterator[list[float]]:
        if near is not None:
            E, A, B, a, b = near
            yield [math.log(E), math.log(A) - a * centre_x, math.log(B) - b * centre_y, a, b]
            return
        for share in (0.1, 0.5, 0.8, 0.95) if floor is None else (floor / loss.min(),):
            rest = np.log(loss.min() * (1 - share) / 2)
            yield from (
                [np.log(share * loss.min()), rest, rest, a, b] for a in (0.2, 0.5, 1.0) for b in (0.2, 0.5, 1.0)
            )

    bounds = ([np.log(loss.min()) - 12, -np.inf, -np.inf, 1e-3, 1e-3], [np.inf] * 3 + [3.0, 3.0])
    options = dict(jac=jacobian, bounds=[side[known:] for side in bounds], x_scale="jac", max_nfev=300)
    huber = lambda start: least_squares(residual, start, loss="huber", f_scale=_HUBER, **options)
    # From afar Huber's loss is as flat as |x|, where a search can stop short: the squares' own optimum is a start as well.
    found = [
        fit for s in starts() for fit in (huber(s[known:]), huber(least_squares(residual, s[known:], **options).x))
    ]
    best = min(found, key=lambda result: result.cost).x
    e, p, q, a, b = whole(best)
    constants = (math.exp(e), math.exp(p + a * centre_x), math.exp(q + b * centre_y), float(a), float(b))
    return constants, residual(best)
