"""k-sparse probes: a logistic regression for each target on the k units that differ most where it holds.

Units are chosen by the largest absolute difference of their means (Gurnee et al., 2305.01610), on the rows that the probe
is fitted to. The objective is that of `jaxsae.evaluate.probe` and scikit-learn at C = 1, on units of mean 0 and variance 1:
the sum of the losses of all rows, and half the squared weights. With so few weights Newton's method takes a handful of steps.
"""

import dataclasses

import numpy as np
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from jaxsae.evaluate.othello.targets import both_present

Units = np.ndarray | sp.csc_matrix
STEPS = 30  # of Newton's method, at most
TOLERANCE = 1e-6  # of the gradient of a row's mean loss
SHORTEST = 1e-4  # part of a step that is tried
FAR = 500.0  # log-odds beyond which probabilities are 0 and 1
CERTAIN = 30.0  # log-odds of a target that always held, and less those of one that never did


@dataclasses.dataclass(frozen=True)
class FewProbes:
    """T logistic regressions on k units each: logits_t = units[:, chosen_t] @ weights_t + bias_t.

    Attributes:
      chosen: int [T, k]. weights: [T, k]. bias: [T].
    """

    chosen: np.ndarray
    weights: np.ndarray
    bias: np.ndarray

    def logits(self, units_NxU: Units) -> np.ndarray:
        """[N, T]: log-odds of each target."""
        width, (targets, k) = units_NxU.shape[1], self.chosen.shape
        place = (self.chosen.ravel(), np.repeat(np.arange(targets), k))
        matrix = sp.csr_matrix((self.weights.ravel(), place), (width, targets))
        if sp.issparse(units_NxU):
            return (units_NxU.tocsr() @ matrix).toarray() + self.bias
        return units_NxU @ matrix.toarray() + self.bias


def differences(units_NxU: Units, labels_NxT: np.ndarray) -> np.ndarray:
    """[U, T]: the mean of each unit where a target holds less its mean where it does not; 0 where a class is absent."""
    labels = np.asarray(labels_NxT, np.float64)
    positives = labels.sum(0)
    held = np.asarray(units_NxU.T @ labels)
    total = np.asarray(units_NxU.sum(0), np.float64).reshape(-1, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = held / positives - (total - held) / (len(labels) - positives)
    return np.where(both_present(labels_NxT), found, 0)


def fit(units_NxU: Units, labels_NxT: np.ndarray, k: int, apart_UxT: np.ndarray | None = None) -> FewProbes:
    """Fits a probe of at most k units to each target.

    Args:
      apart_UxT: `differences` of the same, where they are known.
    """
    apart = differences(units_NxU, labels_NxT) if apart_UxT is None else apart_UxT
    k = min(k, apart.shape[0])
    chosen = np.argsort(-np.abs(apart), axis=0, kind="stable")[:k].T
    weights, held = np.zeros((len(chosen), k)), labels_NxT.mean(0)
    bias = np.where(held > 0.5, CERTAIN, -CERTAIN)
    units = units_NxU.tocsc() if sp.issparse(units_NxU) else units_NxU
    with threadpool_limits(1, user_api="blas"):
        for t in np.flatnonzero(both_present(labels_NxT)):
            rows = _counted(units[:, chosen[t]], labels_NxT[:, t])
            weights[t], bias[t] = _newton(*rows)
    return FewProbes(chosen, weights, bias)


def _counted(units_NxK: Units, holds_N: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Units [M, k], how many rows have them [M], and how many of those hold [M]; of sparse units, rows of zeros are one."""
    if not sp.issparse(units_NxK):
        return np.asarray(units_NxK, np.float64), np.ones(len(holds_N)), holds_N.astype(np.float64)
    some = np.zeros(len(holds_N), bool)
    some[units_NxK.indices] = True
    place, count = np.cumsum(some) - 1, int(some.sum())
    dense = np.zeros((count + 1, units_NxK.shape[1]))
    column = np.repeat(np.arange(units_NxK.shape[1]), np.diff(units_NxK.indptr))
    dense[place[units_NxK.indices], column] = units_NxK.data
    hold = np.append(holds_N[some], holds_N[~some].sum()).astype(np.float64)
    return dense, np.append(np.ones(count), len(holds_N) - count), hold


def _newton(units_MxK: np.ndarray, count_M: np.ndarray, hold_M: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights [k] and bias of the least sum of losses and half the squared weights of standardised units."""
    rows, k = count_M.sum(), units_MxK.shape[1]
    mean = count_M @ units_MxK / rows
    x = np.empty((len(units_MxK), k + 1))
    x[:, :k], x[:, k] = units_MxK - mean, 1
    spread = np.sqrt(count_M @ np.square(x[:, :k]) / rows)
    scale = np.where(spread > 0, 1 / np.where(spread > 0, spread, 1), 0)
    x[:, :k] *= scale
    ridge, share = np.append(np.ones(k), 0), hold_M.sum() / rows

    def at(w: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities [M], and the gradient."""
        p = 1 / (1 + np.exp(-np.clip(z, -FAR, FAR)))
        return p, x.T @ (count_M * p - hold_M) + ridge * w

    w = np.append(np.zeros(k), np.log(share / (1 - share)))
    z = x @ w
    p, gradient = at(w, z)
    for _ in range(STEPS):
        if np.abs(gradient).max() <= TOLERANCE * rows:
            break
        curvature = (x * (count_M * p * (1 - p))[:, None]).T @ x + np.diag(ridge + 1e-9)
        step = np.linalg.solve(curvature, gradient)
        towards, length = x @ step, 1.0
        while length > SHORTEST:  # along Newton's step the gradient gets shorter at first: halved until it has
            new = w - length * step, z - length * towards
            found = at(*new)
            if np.linalg.norm(found[1]) < np.linalg.norm(gradient):
                (w, z), (p, gradient) = new, found
                break
            length /= 2
        else:
            break
    weights = w[:k] * scale
    return weights, float(w[k] - mean @ weights)
