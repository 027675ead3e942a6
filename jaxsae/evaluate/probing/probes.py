"""Probes of scikit-learn: logistic regression on what is given, and k-NN; strength and neighbours by cross-validation.

Latents of a k-sparse probe are those whose mean differs most between the two classes (sparse probing: Gurnee et al.,
2305.01610; SAEBench, 2503.09532). All is chosen on the rows that fit, whose folds keep a context's rows together.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp

STRENGTHS = (0.001, 0.03, 1.0)  # C of logistic regression: the inverse of how much weights are held down
NEIGHBOURS = (5, 25, 75)
FOLDS = 3
_ITERATIONS = 300


@dataclasses.dataclass(frozen=True)
class Said:
    """What a probe says of rows that it did not see.

    Attributes:
      scores: float64 [N], the larger, the surer that the task's class holds. holds: bool [N], at even odds.
      about: how it was made, for the JSON.
    """

    scores: np.ndarray
    holds: np.ndarray
    about: dict[str, Any]


def logistic(x_fit: np.ndarray, y_fit: np.ndarray, folds: np.ndarray, x_test: np.ndarray, **about: Any) -> Said:
    """Logistic regression on numbers [N, d] that are brought to mean 0 and variance 1 on the rows that fit.

    Args:
      folds: int [N], the fold of each row.
    """
    from sklearn.linear_model import LogisticRegression

    mean, deviation = x_fit.mean(0, dtype=np.float64), x_fit.std(0, dtype=np.float64)
    scale = np.where(deviation > 1e-6 * max(deviation.max(), 1e-30), deviation, np.inf)  # what is constant says nothing
    fit, test = ((x - mean) / scale for x in (x_fit, x_test))
    make = lambda strength: LogisticRegression(C=strength, max_iter=_ITERATIONS)
    losses = np.zeros(len(STRENGTHS))
    for inside, outside in splits(folds, y_fit):
        for i, strength in enumerate(STRENGTHS):
            logits = make(strength).fit(fit[inside], y_fit[inside]).decision_function(fit[outside])
            losses[i] += np.logaddexp(0, np.where(y_fit[outside], -logits, logits)).sum()
    strength = STRENGTHS[int(losses.argmin())]
    logits = make(strength).fit(fit, y_fit).decision_function(test)
    return Said(logits, logits > 0, {"C": strength} | about)


def nearest(x_fit: np.ndarray, y_fit: np.ndarray, folds: np.ndarray, x_test: np.ndarray) -> Said:
    """The share of a row's nearest neighbours, by Euclidean distance, that are of the class."""
    losses = np.zeros(len(NEIGHBOURS))
    for inside, outside in splits(folds, y_fit):
        shares = _shares(x_fit[inside], y_fit[inside], x_fit[outside])
        losses += np.square(shares - y_fit[outside]).sum(1)
    best = int(losses.argmin())
    share = _shares(x_fit, y_fit, x_test)[best]
    return Said(share, share > 0.5, {"neighbours": min(NEIGHBOURS[best], len(x_fit))})


def _shares(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """[neighbourhoods, rows of `at`]: share of the nearest rows of x whose label holds, for each of `NEIGHBOURS`."""
    from sklearn.neighbors import NearestNeighbors

    most = min(max(NEIGHBOURS), len(x))
    index = NearestNeighbors(n_neighbors=most, algorithm="brute").fit(x).kneighbors(at, return_distance=False)
    held = np.cumsum(y[index], 1)
    return np.stack([held[:, min(k, most) - 1] / min(k, most) for k in NEIGHBOURS])


def splits(folds: np.ndarray, y: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(rows that fit, rows that judge) of each fold, where both classes are among those that fit."""
    for fold in range(FOLDS):
        inside = folds != fold
        if y[inside].any() and not y[inside].all() and not inside.all():
            yield inside, ~inside


def most_different(x: Any, y: np.ndarray, count: int, standardized: bool) -> np.ndarray:
    """The `count` columns of x [N, n], dense or sparse, with the largest |mean where y - mean elsewhere|, largest first.

    Args:
      standardized: whether that is in units of the column's standard deviation.
    """
    total = lambda rows: np.asarray(rows.sum(0), np.float64).ravel()
    x = x.astype(np.float64)
    difference = np.abs(total(x[y]) / y.sum() - total(x[~y]) / (~y).sum())
    if standardized:
        square = x.multiply(x) if sp.issparse(x) else np.square(x)
        variance = total(square) / len(y) - np.square(total(x) / len(y))
        flat = variance <= 1e-12 * max(variance.max(initial=0), 1e-300)
        difference = np.where(flat, 0, difference / np.sqrt(np.where(flat, 1, variance)))
    return np.argsort(-difference, kind="stable")[:count]


def dense(x: Any, columns: np.ndarray | None = None) -> np.ndarray:
    """float32 [N, columns] of a matrix, dense or sparse."""
    part = x if columns is None else x[:, columns]
    return part.toarray() if sp.issparse(part) else part


def components(x_fit: np.ndarray, x_test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both in the principal components of the rows that fit, largest first; as many as they have."""
    from sklearn.decomposition import PCA

    pca = PCA(svd_solver="covariance_eigh" if x_fit.shape[1] <= len(x_fit) else "full").fit(x_fit)
    kept = pca.explained_variance_ > 1e-10 * pca.explained_variance_.max()
    return tuple(pca.transform(x)[:, kept] for x in (x_fit, x_test))
