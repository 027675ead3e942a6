"""Whether latents' directions lie along the axes of the activations, and what dimensions that stand out have to do with it.

A direction w of length 1 in d dimensions has its largest entry max |w_j|, and spreads over 1 / sum_j w_j^4 of the axes
(participation): 1 along an axis, about d / 3 of a random direction. Random directions stand beside them, the decoder's rows
turned by one random rotation, which leaves all angles between latents and no axis, and directions drawn as the activations
lie, Gaussian with their covariance: what these show comes from the activations, not from the dictionary.
"""

import dataclasses
from typing import Any

import numpy as np

from jaxsae.evaluate.latents.counts import clopper_pearson

ALONG, OUTLIER_MEAN, OUTLIER_KURTOSIS = 0.99, 3.0, 20.0
SAMPLE, DIRECTIONS = 4096, 4096  # rows that Gaussian directions are mixed of; baselines' directions at most
LISTED = 8
_KEY = 0xBA515


class Moments:
    """Of each coordinate of rows [N, d], and a sample of the rows."""

    def __init__(self, seed: int):
        self._rng, self.rows, self._sums = np.random.default_rng([seed, _KEY]), 0, None
        self._sample: list[np.ndarray] = []

    def add(self, y: np.ndarray) -> None:
        """Takes in rows."""
        y = np.asarray(y, np.float64)
        if self._sums is None:
            self._origin, self._sums = y.mean(0), np.zeros((4, y.shape[1]))  # sums about 0 would lose digits
        power = one = y - self._origin
        for order in range(4):
            self._sums[order] += power.sum(0)
            power = power * one
        self.rows += len(y)
        self._sample.append(y[self._rng.permutation(len(y))[: SAMPLE // 8]])

    def figures(self) -> dict[str, np.ndarray]:
        """By coordinate [d]: `mean`, `std`, `kurtosis` (excess; 0 where nothing varies), `variance_share`."""
        m1, m2, m3, m4 = self._sums / self.rows
        variance = np.maximum(m2 - m1**2, 0)
        fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
        flat = variance <= 1e-12 * (m2 + np.finfo(float).tiny)
        kurtosis = np.where(flat, 0, fourth / np.where(flat, 1, variance) ** 2 - 3)
        total = variance.sum()
        return {
            "mean": self._origin + m1,
            "std": np.sqrt(variance),
            "kurtosis": kurtosis,
            "variance_share": variance / total if total else variance,
        }

    @property
    def sample(self) -> np.ndarray:
        """float64 [at most SAMPLE, d]: rows less their mean."""
        rows = np.concatenate(self._sample)
        return self._rng.permutation(rows)[:SAMPLE] - rows.mean(0)


@dataclasses.dataclass(frozen=True)
class Alignment:
    """Of directions [n, d]: the `largest` |entry|, its `axis`, `participation` and `kurtosis` (excess) of entries, [n]."""

    largest: np.ndarray
    axis: np.ndarray
    participation: np.ndarray
    kurtosis: np.ndarray

    @classmethod
    def of(cls, directions: np.ndarray) -> "Alignment":
        w = unit(directions)
        centred = w - w.mean(1, keepdims=True)
        second, fourth = (np.mean(centred**power, 1) for power in (2, 4))
        kurtosis = np.divide(fourth, second**2, out=np.full(len(w), 3.0), where=second > 0) - 3
        return cls(np.abs(w).max(1), np.abs(w).argmax(1), 1 / np.maximum((w**4).sum(1), 1e-300), kurtosis)

    def medians(self) -> dict[str, float]:
        """In the middle of the directions."""
        return {name: float(np.median(getattr(self, name))) for name in ("largest", "participation", "kurtosis")}


def unit(directions: np.ndarray) -> np.ndarray:
    """float64 rows at length 1; those of length 0 stay."""
    w = np.asarray(directions, np.float64)
    norms = np.linalg.norm(w, axis=1, keepdims=True)
    return np.divide(w, norms, out=np.zeros_like(w), where=norms > 0)


def figures(rows: np.ndarray, moments: Moments, seed: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Of decoder rows [n, d] that are not 0 and the activations' moments at the site they write.

    Returns:
      `latents`: medians of `largest`, `participation`, `kurtosis`, and `along`: the share of latents whose largest entry
      is above that of 99 in 100 random directions, with `along_interval`; `baselines` {random, rotated, gaussian} of the
      same; `outliers`: dimensions with |mean| / std above 3 or an excess kurtosis above 20, how many, their share of the
      variance, of the dimensions, of the decoder's squares (a mean over latents) and of the baselines', and the foremost;
      `most_aligned`: latents. And by latent `basis_largest`, `basis_axis`, `basis_participation`, `basis_kurtosis`.
    """
    rng = np.random.default_rng([seed, _KEY])
    count, d = min(len(rows), DIRECTIONS), rows.shape[1]
    sample = moments.sample
    others = {
        "random": rng.standard_normal((count, d)),
        "rotated": unit(rows)[rng.permutation(len(rows))[:count]] @ _rotation(d, rng),
        "gaussian": rng.standard_normal((count, len(sample))) @ sample,
    }
    found = {name: Alignment.of(directions) for name, directions in {"latents": rows, **others}.items()}
    limit = float(np.quantile(Alignment.of(rng.standard_normal((10_000, d))).largest, ALONG))
    by_axis = moments.figures()
    standing = outliers(by_axis)
    mass = {name: float((unit(w)[:, standing] ** 2).sum(1).mean()) for name, w in {"latents": rows, **others}.items()}
    told = {name: a.medians() | _along(a.largest > limit) for name, a in found.items()}
    own = found["latents"]
    listed = np.argsort(-np.abs(by_axis["mean"]) / np.maximum(by_axis["std"], 1e-30))[:LISTED]
    most = np.argsort(-own.largest, kind="stable")[:LISTED]
    return {
        "latents": told.pop("latents"),
        "baselines": told,
        "random_limit": limit,
        "outliers": {
            "dimensions": int(standing.sum()),
            "share_of_dimensions": standing.mean(),
            "share_of_variance": by_axis["variance_share"][standing].sum(),
            "share_of_decoder": mass.pop("latents"),
            "baselines": mass,
            "foremost": [{"dimension": int(j)} | {name: by_axis[name][j] for name in by_axis} for j in listed],
        },
        "most_aligned": [
            {"latent": int(i), "axis": int(own.axis[i]), "largest": own.largest[i]} for i in most
        ],  # numbered among `rows`
    }, {f"basis_{name}": getattr(own, name) for name in ("largest", "axis", "participation", "kurtosis")}


def outliers(by_axis: dict[str, np.ndarray]) -> np.ndarray:
    """bool [d]: dimensions of which |mean| / std, or the excess kurtosis, is large; what never varies is none."""
    varies = by_axis["std"] > 0
    ratio = np.abs(by_axis["mean"]) / np.where(varies, by_axis["std"], 1)
    return varies & ((ratio > OUTLIER_MEAN) | (by_axis["kurtosis"] > OUTLIER_KURTOSIS))


def _along(aligned: np.ndarray) -> dict[str, Any]:
    low, high = clopper_pearson(aligned.sum(), len(aligned))
    return {"along": aligned.mean(), "along_interval": [float(low), float(high)]}


def _rotation(d: int, rng: np.random.Generator) -> np.ndarray:
    """[d, d], uniform among orthogonal matrices."""
    q, r = np.linalg.qr(rng.standard_normal((d, d)))
    return q * np.sign(np.diag(r))
