"""Accuracy, F1 and AUROC of probes, and what they would be of other contexts: a bootstrap that all probes share.

Contexts are drawn with replacement, each with all of its rows, so that rows of one game are not taken for independent; a
draw is the same for every probe, so that the interval of a difference is of the difference (a paired bootstrap, Efron &
Tibshirani 1993).
"""

import numpy as np

from jaxsae.evaluate.probing.probes import Said

METRICS = ("auroc", "accuracy", "f1")
DRAWS = 1000
_DRAW_KEY = 0xB007


def draws(context_N: np.ndarray, seed: int) -> np.ndarray:
    """float32 [1 + DRAWS, N]: how often each row counts; once in the first, which is the sample itself."""
    contexts, which = np.unique(context_N, return_inverse=True)
    rng = np.random.default_rng([seed, _DRAW_KEY])
    drawn = rng.multinomial(len(contexts), np.full(len(contexts), 1 / len(contexts)), DRAWS)
    return np.concatenate([np.ones((1, len(which))), drawn[:, which]]).astype(np.float32)


def measured(said: Said, y: np.ndarray, weights_BxN: np.ndarray) -> np.ndarray:
    """[METRICS, B] of what a probe says, in each draw; NaN where it is not defined there."""
    right = np.float32(said.holds == y)
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = weights_BxN @ right / weights_BxN.sum(1)
        f1 = 2 * (weights_BxN @ np.float32(said.holds & y)) / (weights_BxN @ (np.float32(said.holds) + y))
    return np.stack([auroc(said.scores, y, weights_BxN), accuracy, f1])


def auroc(scores: np.ndarray, y: np.ndarray, weights_BxN: np.ndarray) -> np.ndarray:
    """[B]: areas under the ROC curve of weighted rows, ties counted half."""
    order = np.argsort(scores, kind="stable")
    sorted_scores, weights = scores[order], weights_BxN[:, order].astype(np.float64)
    positive, negative = weights * y[order], weights * ~y[order]
    below = np.cumsum(negative, 1)
    # Of each run of equal scores: negatives before it, and half of those in it.
    last = np.searchsorted(sorted_scores, sorted_scores, side="right") - 1
    first = np.searchsorted(sorted_scores, sorted_scores, side="left")
    before = np.where(first > 0, below[:, np.maximum(first - 1, 0)], 0)
    wins = (positive * (before + below[:, last]) / 2).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return wins / (positive.sum(1) * negative.sum(1))


def interval(values_B: np.ndarray) -> list[float] | None:
    """95% interval of a figure whose first value is that of the sample, the others those of the draws."""
    rest = values_B[1:][np.isfinite(values_B[1:])]
    return [float(end) for end in np.percentile(rest, (2.5, 97.5))] if len(rest) else None


def figure(values_B: np.ndarray) -> dict[str, object]:
    """`value` and `interval`."""
    return {"value": float(values_B[0]), "interval": interval(values_B)}
