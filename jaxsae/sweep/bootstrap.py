"""Bootstrap intervals of a fitted law: residuals are drawn anew, and all refits run as one batch.

Points of single members: noise is drawn from a normal distribution with the residuals' standard deviation, corrected for
degrees of freedom, and added to the fitted values (Davison and Hinkley 1997, section 6.3). Drawing members would often
lose a whole width, since a grid has few; drawing the residuals themselves knows no tails where there are few of them.

Points along the members' curves: residuals of one member go together, times one random number of mean 0 and variance 1 a
member (wild cluster bootstrap, Cameron, Gelbach and Miller 2008; the six values of Webb 2014, which suit few clusters).

Intervals are expanded percentile intervals (Hesterberg 2015, "What teachers should know about the bootstrap"): percentiles
at Phi(-+t), t the quantile of Student's t with the fit's degrees of freedom, since percentiles alone are too narrow where
points are few. They need no standard errors, which fail where a floor is close to 0, and go with any monotone function.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from jaxsae.sweep.fit import Fit

LEVEL = 0.95
RESAMPLES = 2000
CLUSTER_RESAMPLES = 500  # members are few, and so are the different ways to draw them
_WEBB = np.sqrt([1.5, 1.0, 0.5])


@dataclasses.dataclass(frozen=True)
class Bootstrap:
    """A fit and its refits.

    Attributes:
      fit: the fit. samples: [resamples, size], coefficients of centred logarithms.
      freedom: degrees of freedom behind the intervals.
    """

    fit: Fit
    samples: np.ndarray
    freedom: int

    @property
    def drawn(self) -> dict[str, np.ndarray]:
        """{constant: its value in every refit, [resamples]}."""
        return self.fit.law.constants_from(self.samples @ self.fit.law.uncentre(self.fit.centre).T)

    def constants(self) -> dict[str, dict[str, object]]:
        """{constant: {value, interval}}; interval None where the points do not determine it."""
        law, fit, drawn = self.fit.law, self.fit, self.drawn
        value, out = fit.constants, {}
        for i, name in enumerate(value):
            none = np.exp(law.lower(fit.y)[i]) * 1.01  # a floor that has come down to where it counts as none
            zero = lambda v, none=none: np.where(v <= none, 0.0, v) if none > 0 else v
            out[name] = {"value": float(zero(value[name])), "interval": self.interval(zero(drawn[name]))}
        return out

    def interval(self, drawn: np.ndarray) -> list[float] | None:
        """[low, high] of a figure of which `drawn` [resamples] holds the value in every refit."""
        finite = drawn[np.isfinite(drawn)]
        if not self.fit.identified or len(finite) < 0.95 * len(drawn):
            return None
        tail = stats.norm.cdf(stats.t.ppf((1 - LEVEL) / 2, max(1, self.freedom)))
        low, high = np.quantile(finite, [tail, 1 - tail])
        return [float(low), float(high)]

    def log_values(self, **x: np.ndarray | float) -> np.ndarray:
        """ln of the law's value at points x by every refit, [resamples, M]."""
        return self.fit.law.log_value(self.samples, self.fit.features(x))[0]

    def prediction(self, seed: int = 0, **x: float) -> tuple[float, list[float] | None]:
        """The law's value at one point, and the interval in which a new member's lies: of the law and of the noise."""
        drawn = self.log_values(**x)[:, 0]
        noise = self.fit.sigma * np.random.default_rng([seed, 1]).standard_normal(len(drawn))
        interval = self.interval(drawn + noise)
        return float(self.fit.predict(**x)[0]), interval and [float(v) for v in np.exp(interval)]


def bootstrap(fit: Fit, seed: int = 0, resamples: int = RESAMPLES, clusters: Sequence | None = None) -> Bootstrap:
    """Refits a law to drawn data, deterministically.

    Args:
      fit: the fit. seed: of the draws. resamples: how many.
      clusters: [N], what each point belongs to, where points of one member are not independent.
    """
    rng = np.random.default_rng([seed, 0])
    if clusters is None:
        noise = fit.sigma * rng.standard_normal((resamples, len(fit.y)))
        freedom = fit.degrees_of_freedom
    else:
        names, index = np.unique(np.asarray(clusters), return_inverse=True)
        values, resamples = np.concatenate([_WEBB, -_WEBB]), min(resamples, CLUSTER_RESAMPLES)
        residuals = fit.residuals / np.sqrt(np.maximum(1 - _leverage(fit), 1e-2))
        noise = residuals * rng.choice(values, (resamples, len(names)))[:, index]
        freedom = len(names) - 1
    targets = np.log(fit.y) - fit.residuals + noise
    features = fit.law.features(fit.x, fit.centre)
    value = lambda coefficients: fit.law.log_value(coefficients, features)
    lower = fit.law.lower(fit.y)
    # From a floor of nothing there is hardly a way up; from a small one there is one either way.
    start = np.maximum(fit.coefficients, lower + np.log(50))
    return Bootstrap(fit, refit(value, start, targets, fit.weights, lower, fit.law.upper), freedom)


def _leverage(fit: Fit) -> np.ndarray:
    """[N], diagonal of the hat matrix of the weighted, linearised fit."""
    weighted = np.sqrt(fit.weights)[:, None] * fit.jacobian
    q, r = np.linalg.qr(weighted / np.maximum(np.linalg.norm(weighted, axis=0), 1e-300))
    rank = np.abs(np.diag(r)) > 1e-12
    return np.square(q[:, rank]).sum(1)


def refit(
    value: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    start: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    iterations: int = 50,
) -> np.ndarray:
    """Weighted least squares for many targets at once: Levenberg-Marquardt on a batch, from one start.

    Args:
      value: coefficients [R, P] -> values [R, N] and Jacobians [R, N, P]. start: [P]. targets: [R, N]. weights: [N].
      lower, upper: [P], the coefficients allowed. One that would pass its end is held there for a step.

    Returns:
      Coefficients [R, P].
    """
    coefficients = np.repeat(start[None], len(targets), 0)
    damping = np.full(len(targets), 1e-4)
    active = np.arange(len(targets))  # those that still move
    for _ in range(iterations):
        here, target = coefficients[active], targets[active]
        model, jacobian = value(here)
        residual = target - model
        cost = (weights * residual**2).sum(-1)
        weighted = jacobian * weights[:, None]
        normal = np.swapaxes(weighted, -1, -2) @ jacobian
        gradient = (np.swapaxes(weighted, -1, -2) @ residual[..., None])[..., 0]
        held = (here >= upper) & (gradient > 0) | (here <= lower) & (gradient < 0)
        gradient = np.where(held, 0.0, gradient)
        normal = np.where(held[:, None, :] | held[:, :, None], 0.0, normal)
        diagonal = np.einsum("rpp->rp", normal)
        scale = np.maximum(diagonal, 1e-9 * diagonal.max(-1, keepdims=True) + 1e-300)
        identity = np.eye(len(start))
        step = np.linalg.solve(normal + identity * (damping[active, None] * scale)[:, None, :], gradient[..., None])
        trial = np.clip(here + step[..., 0], lower, upper)
        fresh = (weights * (target - value(trial)[0]) ** 2).sum(-1)
        better = fresh <= cost
        coefficients[active] = np.where(better[:, None], trial, here)
        damping[active] = np.clip(damping[active] * np.where(better, 0.1, 10.0), 1e-10, 1e8)
        settled = better & (cost - fresh <= 1e-7 * cost) | (damping[active] >= 1e8)
        active = active[~settled]
        if not len(active):
            break
    return coefficients
