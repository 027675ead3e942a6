"""Least squares on log losses: scipy from several starts, then once more with Huber's loss at three standard deviations.

Huber: one member that stalled or diverged must not move the law (Hoffmann et al., arXiv 2203.15556, use it for the same
reason). At three standard deviations of the residuals it touches 0.3% of well-behaved members, so that it costs nothing where
it is not needed; members beyond are named.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import least_squares

from jaxsae.sweep.laws import NO_FLOOR, Law

FLOORS = (0.02, 0.2, 0.5, 0.8, 0.95)  # of the smallest loss: where searches start
SAME = 1e-4  # relative difference of two sums of squares that count as one optimum
OUTLIER = 3.0  # standard deviations
_CONDITION = 1e7  # of the Jacobian with columns of unit norm; beyond, some constants are not determined
TRIFLE = 2 * NO_FLOOR  # a term whose share of the value stays below this is as good as absent


@dataclasses.dataclass(frozen=True)
class Fit:
    """A law with its best coefficients.

    Attributes:
      law, x, y: what was fitted to what, x {variable: [N]} and y [N].
      centre: {variable: mean of its logarithm}. coefficients: [size], of centred logarithms.
      residuals: [N], ln y - ln y_hat. jacobian: [N, size] of ln y_hat. weights: [N], Huber's, 1 for members in line.
      starts, agreeing: searches, and how many of them ended in this optimum.
      present: [size], whether the coefficient's term is more than a trifle of any value.
      identified: whether the points determine the constants of the terms that are present.
    """

    law: Law
    x: Mapping[str, np.ndarray]
    y: np.ndarray
    centre: Mapping[str, float]
    coefficients: np.ndarray
    residuals: np.ndarray
    jacobian: np.ndarray
    weights: np.ndarray
    starts: int
    agreeing: int
    present: np.ndarray
    identified: bool

    @property
    def degrees_of_freedom(self) -> int:
        """Points less constants."""
        return len(self.y) - self.law.size

    @property
    def sigma(self) -> float:
        """Standard deviation of ln y around the law."""
        return float(np.sqrt((self.weights * self.residuals**2).sum() / max(1, self.degrees_of_freedom)))

    @property
    def constants(self) -> dict[str, float]:
        """{name: value}."""
        plain = self.law.uncentre(self.centre) @ self.coefficients
        return {name: float(value) for name, value in self.law.constants_from(plain).items()}

    def features(self, x: Mapping[str, np.ndarray | float]) -> list[np.ndarray]:
        """The law's features at other points, each [M] or a number."""
        points = np.broadcast_arrays(*(np.atleast_1d(v) for v in x.values()))
        return self.law.features(dict(zip(x, points, strict=True)), self.centre)

    def predict(self, **x: np.ndarray | float) -> np.ndarray:
        """The law's value at points x, each [M] or a number."""
        return np.exp(self.law.log_value(self.coefficients, self.features(x))[0])

    def beyond(self, **x: float) -> str:
        """Which variables lie outside of the members, by how much; "" where none does."""
        out = []
        for name, value in x.items():
            low, high = float(np.min(self.x[name])), float(np.max(self.x[name]))
            if value > high * 1.001:
                out.append(
                    f"{name} = {readable(value)} is {value / high:.3g} times the largest fitted, {readable(high)}"
                )
            elif value < low * 0.999:
                out.append(f"{name} = {readable(value)} is 1/{low / value:.3g} of the smallest fitted, {readable(low)}")
        return "; ".join(out)


def readable(value: float) -> str:
    """32768 -> 32,768; 3.36412 -> 3.36; 1.7e16 as it is."""
    return f"{value:,.0f}" if 1000 <= value < 1e9 else f"{value:.3g}"


def why_not(law: Law, x: Mapping[str, Sequence[float]]) -> str:
    """Why these points are too few for the law; "" where they suffice."""
    count = len(next(iter(x.values())))
    short = [f"{least} values of {v} (there are {len(set(x[v]))})" for v, least in law.least.items()]
    short = [text for text, (v, least) in zip(short, law.least.items(), strict=True) if len(set(x[v])) < least]
    if count < law.size + 2:
        short.append(f"{law.size + 2} points (there are {count})")
    return f"needs {' and '.join(short)}" if short else ""


def fit(law: Law, x: Mapping[str, Sequence[float]], y: Sequence[float]) -> Fit:
    """Fits a law to points.

    Args:
      law: the law. x: {variable: [N] positive numbers}. y: [N] positive numbers.

    Raises:
      ValueError: too few points (`why_not`), or values that are not positive and finite.
    """
    x = {v: np.asarray(x[v], np.float64) for v in law.variables}
    y = np.asarray(y, np.float64)
    if reason := why_not(law, x):
        raise ValueError(f"{law.name} {reason}")
    if not all((np.isfinite(a) & (a > 0)).all() for a in (y, *x.values())):
        raise ValueError(f"{law.name}: values must be positive and finite")
    centre = {v: float(np.log(values).mean()) for v, values in x.items()}
    features, log_y, lower = law.features(x, centre), np.log(y), law.lower(y)

    def search(start: np.ndarray, **options):
        residual = lambda c: law.log_value(c, features)[0] - log_y
        jacobian = lambda c: law.log_value(c, features)[1]
        bounds = (lower, law.upper)
        tolerances = dict(ftol=1e-10, gtol=1e-12, xtol=1e-10, max_nfev=100)
        return least_squares(residual, start, jac=jacobian, x_scale="jac", bounds=bounds, **tolerances, **options)

    found = [search(start) for start in _starts(law, features, y)]
    best = search(min(found, key=lambda result: result.cost).x)  # on from where the best search stopped
    agreeing = sum(result.cost <= best.cost * (1 + SAME) + 1e-18 for result in found)
    weights = np.ones(len(y))
    if len(y) >= 2 * law.size:  # with fewer points the residuals say too little about who stands out
        scale = OUTLIER * _spread(best.fun, len(y) - law.size)
        if scale > 0 and np.abs(best.fun).max() > scale:
            best = search(best.x, loss="huber", f_scale=scale)
            weights = np.minimum(1, scale / np.maximum(np.abs(best.fun), 1e-300))
    jacobian = law.log_value(best.x, features)[1]
    shares = np.array([jacobian[:, law.owners == term][:, 0].max() for term in range(len(law.terms))])
    present = (shares > TRIFLE)[law.owners]  # the first column of a term is its share
    constant_floor = np.isfinite(lower)  # which may well be 0; a term with slopes may not
    identified = (present | constant_floor).all() and _identified(jacobian, present)
    return Fit(law, x, y, centre, best.x, -best.fun, jacobian, weights, len(found), agreeing, present, bool(identified))


def _starts(law: Law, features: list[np.ndarray], y: np.ndarray) -> list[np.ndarray]:
    """A flat floor at some share of the smallest y, the rest shared out among the other terms by linear regression."""
    regress = lambda f, values: np.linalg.lstsq(f, np.log(values), rcond=None)[0]
    if law.floor is None:
        return [regress(features[0], y)]
    others = len(features) - 1
    starts = []
    for share in FLOORS:
        floor = share * y.min()
        flat = np.zeros(features[law.floor].shape[1])
        flat[0] = np.log(floor)
        parts = [flat if i == law.floor else regress(f, (y - floor) / others) for i, f in enumerate(features)]
        # strictly inside of the bounds, where scipy wants to start
        starts.append(np.minimum(np.concatenate(parts), law.upper - 1e-3))
    return starts


def _spread(residuals: np.ndarray, degrees_of_freedom: int) -> float:
    """Standard deviation from the median of |residual|, which outliers hardly move."""
    return 1.4826 * float(np.median(np.abs(residuals))) * np.sqrt(len(residuals) / degrees_of_freedom)


def _identified(jacobian: np.ndarray, present: np.ndarray) -> bool:
    columns = jacobian[:, present]
    return bool(np.linalg.cond(columns / np.linalg.norm(columns, axis=0)) < _CONDITION)
