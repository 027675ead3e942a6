"""A dictionary beside the true one: its directions, and where its latents fire on held-out rows.

With c_ij = |<W_i, D_j>| / |D_j|, W the true features and D the decoder's rows, and a matching j(i) of features and latents
that has the largest sum of cosines (Hungarian, each latent once):

    mean_max_cosine = mean over i of max over j of c_ij
    mcc             = mean over i of c_i,j(i), 0 for a feature that no latent is left for (2505.20254)
    f1              = mean over i of 2 TP / (firings of j(i) + firings of i), of features that are active often enough to tell
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from jaxsae.benchmark.known.rows import HeldOut
from jaxsae.evaluate.errors_of_rows import Errors

FEWEST_FIRINGS = 10  # held-out rows on which a feature is active, for its F1 to count
RECOVERED = 0.9  # a cosine from which a feature counts as found
JUDGED_AT_ONCE = 2048

# x [B, d] -> reconstructions [B, d], and the active (row, latent) pairs: rows [p], latents [p].
Apply = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Candidate:
    """What is judged: the decoder's rows float32 [n, d], and what it makes of activations."""

    decoder: np.ndarray
    apply: Apply


def absolute_cosines(features: np.ndarray, decoder: np.ndarray) -> np.ndarray:
    """float32 [features, latents]; 0 with a row of the decoder that is all zeros or not finite."""
    lengths = np.linalg.norm(decoder, axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        unit = np.nan_to_num(decoder / lengths, nan=0, posinf=0, neginf=0)
    return np.abs(features @ unit.T)


def match(cosines: np.ndarray) -> np.ndarray:
    """int [features]: the latent of each, each latent once, such that the sum of cosines is largest; -1: none is left."""
    matched = np.full(len(cosines), -1)
    rows, columns = linear_sum_assignment(cosines, maximize=True)
    matched[rows] = columns
    return matched


def judge(candidate: Candidate, directions: np.ndarray, held_out: HeldOut) -> dict[str, Any]:
    """The figures of a dictionary.

    Returns:
      `mcc`, `mean_max_cosine`, `recovered_fraction` (matched with a cosine above 0.9), `f1` and `f1_features` (how many it
      is the mean of), `fvu`, `gamma`, `l0`, and `dead_fraction`, the share of latents that fire on none of the rows.
    """
    cosines = absolute_cosines(directions, candidate.decoder)
    matched = match(cosines)
    best = np.where(matched >= 0, np.take_along_axis(cosines, np.maximum(matched, 0)[:, None], 1)[:, 0], 0)
    errors, counts = Errors(held_out.x.mean(0, dtype=np.float64)), _Counts(matched, len(candidate.decoder))
    for first in range(0, len(held_out.x), JUDGED_AT_ONCE):
        part = slice(first, first + JUDGED_AT_ONCE)
        x_hat, rows, latents = candidate.apply(held_out.x[part])
        errors.add(held_out.x[part], x_hat)
        counts.add(held_out.codes[part].toarray() > 0, rows, latents)
    f1 = counts.f1()
    told = counts.true >= FEWEST_FIRINGS
    figures = {
        "mcc": best.mean(),
        "mean_max_cosine": cosines.max(1).mean(),
        "recovered_fraction": (best > RECOVERED).mean(),
        "f1": f1[told].mean() if told.any() else None,
        "f1_features": int(told.sum()),
        "fvu": errors.figures()["fvu"],
        "gamma": errors.figures()["gamma"],
        "l0": counts.fired.sum() / len(held_out.x),
        "dead_fraction": (counts.fired == 0).mean(),
    }
    return {name: _plain(value) for name, value in figures.items()}


class _Counts:
    """Where true features and the latents that they are matched with fire, summed over rows."""

    def __init__(self, matched: np.ndarray, width: int):
        self._matched, self.fired = matched, np.zeros(width, np.int64)
        self._feature = np.full(width, -1)
        self._feature[matched[matched >= 0]] = np.flatnonzero(matched >= 0)
        self.true, self._both = (np.zeros(len(matched), np.int64) for _ in range(2))

    def add(self, truth: np.ndarray, rows: np.ndarray, latents: np.ndarray) -> None:
        """Takes in rows: truth bool [B, features], and the active pairs."""
        self.true += truth.sum(0)
        self.fired += np.bincount(latents, minlength=len(self.fired))
        feature = self._feature[latents]
        right = (feature >= 0) & truth[rows, feature]
        self._both += np.bincount(feature[right], minlength=len(self._both))

    def f1(self) -> np.ndarray:
        """float64 [features]; 0 for one that is matched with no latent."""
        fired = np.where(self._matched >= 0, self.fired[self._matched], 0)
        return 2 * self._both / np.maximum(fired + self.true, 1)


def _plain(value: Any) -> float | int | None:
    """As JSON holds it; None for what is not finite."""
    if value is None or isinstance(value, int):
        return value
    return float(value) if np.isfinite(value) else None
