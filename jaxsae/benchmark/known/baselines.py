"""Dictionaries that nobody trained: principal components, random directions, and the true features themselves."""

from collections.abc import Mapping

import numpy as np

from jaxsae.benchmark.known.features import RANDOM, Features, generator, unit_rows
from jaxsae.benchmark.known.judge import Candidate

RIDGE = 1e-6  # of the least squares, over squared lengths of 1: directions that a row chooses may be nearly alike


def baselines(features: Features, sample: np.ndarray, width: int, k: int) -> Mapping[str, Candidate]:
    """By name: `pca`, `random` and `oracle`, each with k active directions a row.

    PCA: all d components of the sample, of which a row takes the k that it projects on most, by either sign. Random:
    `width` unit directions; oracle: the true features, as an encoder of their own. Of both a row takes the k of the
    largest projections, with the amplitudes that fit it best (least squares).

    Args:
      sample: float32 [B, d], training rows.
    """
    d_model, mean = sample.shape[1], sample.mean(0, dtype=np.float64).astype(np.float32)
    centred = (sample - mean).astype(np.float64)
    components = np.linalg.eigh(centred.T @ centred)[1].T[::-1].astype(np.float32)
    random = unit_rows(generator(features.seed, RANDOM), width, d_model)
    return {
        "pca": Candidate(components, _Chosen(components, mean, min(k, d_model), signed=True)),
        "random": Candidate(random, _Chosen(random, mean, k)),
        "oracle": Candidate(features.directions, _Chosen(features.directions, np.zeros_like(mean), k)),
    }


class _Chosen:
    """Takes the k directions [n, d] that a row, less `mean`, projects on most, and fits the row by them."""

    def __init__(self, directions: np.ndarray, mean: np.ndarray, k: int, signed: bool = False):
        self._directions, self._mean, self._k, self._signed = directions, mean, k, signed

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        y = x - self._mean
        scores = y @ self._directions.T
        size = np.abs(scores) if self._signed else scores
        chosen = np.argpartition(-size, self._k - 1, axis=1)[:, : self._k]
        rows = self._directions[chosen]  # [B, k, d]
        gram = rows @ rows.transpose(0, 2, 1) + RIDGE * np.eye(self._k, dtype=np.float32)
        amplitudes = np.linalg.solve(gram, np.take_along_axis(scores, chosen, 1)[..., None])
        x_hat = (amplitudes.transpose(0, 2, 1) @ rows)[:, 0] + self._mean
        return x_hat, np.repeat(np.arange(len(x)), self._k), chosen.reshape(-1)
