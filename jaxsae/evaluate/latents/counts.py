"""How often latents fire, and what a sample of some size can tell of that.

Intervals are Clopper and Pearson's (1934). Rows of one game or text are alike, and say less than as many rows drawn each for
itself: counts and rows are divided by the design effect first, as Korn and Graubard (1998) do, the ratio of the variance
of a frequency over sequences to a binomial one, here the median over latents that fire on 20 rows or more.
"""

import dataclasses
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.stats import beta

RARE, DENSE = 1e-4, 0.1  # below, above: shares of rows
ENOUGH = 20  # firings from which a latent's design effect is taken
LEVEL = 0.95


def clopper_pearson(hits: np.ndarray | float, rows: float) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the exact 95% intervals of shares hits / rows; neither need be whole."""
    hits, tail = np.asarray(hits, np.float64), (1 - LEVEL) / 2
    with np.errstate(invalid="ignore"):
        low = np.where(hits > 0, beta.ppf(tail, hits, rows - hits + 1), 0.0)
        high = np.where(hits < rows, beta.ppf(1 - tail, hits + 1, rows - hits), 1.0)
    return low, high


@dataclasses.dataclass(frozen=True)
class Counts:
    """Of n latents on rows of S sequences.

    Attributes:
      by_sequence: [S, n], on how many rows of each a latent fires. sizes: [S], how many rows each has.
      largest: [n], largest |value|; 0 of what never fires. sums: [n], of |values|.
    """

    by_sequence: sp.csr_matrix
    sizes: np.ndarray
    largest: np.ndarray
    sums: np.ndarray

    @classmethod
    def of(cls, latents: sp.csr_matrix, sequence: np.ndarray) -> "Counts":
        """Of latents [N, n] of rows of the sequences [N], which are counted from 0."""
        sizes = np.bincount(sequence)
        member = sp.csr_matrix(
            (np.ones(len(sequence)), (sequence, np.arange(len(sequence)))), (len(sizes), len(sequence))
        )
        fires, size = latents != 0, abs(latents)
        largest = size.max(axis=0).toarray().ravel().astype(np.float64)
        by_sequence = (member @ fires.astype(np.float64)).tocsr()
        return cls(by_sequence, sizes, largest, np.asarray(size.sum(0, dtype=np.float64)).ravel())

    @property
    def rows(self) -> int:
        return int(self.sizes.sum())

    @property
    def firings(self) -> np.ndarray:
        """int [n]: on how many rows each fires."""
        return np.asarray(self.by_sequence.sum(0)).ravel().round().astype(np.int64)

    @property
    def design_effects(self) -> np.ndarray:
        """[n]: variance of a frequency over sequences by that of as many rows each for itself; NaN of too few firings."""
        sequences, rows, size = len(self.sizes), self.rows, self.sizes.astype(np.float64)
        p = self.firings / rows
        squares = np.asarray(self.by_sequence.power(2).sum(0)).ravel() - 2 * p * (self.by_sequence.T @ size)
        variance = sequences / max(sequences - 1, 1) * (squares + p**2 * (size**2).sum()) / rows**2
        known = (self.firings >= ENOUGH) & (p < 1) & (sequences > 1)
        return np.where(known, variance / np.where(known, p * (1 - p) / rows, 1), np.nan)

    @property
    def design_effect(self) -> float:
        """The median, at least 1, and 1 where none is known."""
        known = self.design_effects[np.isfinite(self.design_effects)]
        return max(1.0, float(np.median(known))) if len(known) else 1.0

    def intervals(self) -> tuple[np.ndarray, np.ndarray]:
        """Ends [n] of the 95% intervals of frequencies."""
        effect = self.design_effect
        return clopper_pearson(self.firings / effect, self.rows / effect)


def figures(counts: Counts) -> dict[str, Any]:
    """Of how many latents what can be said; each class with those that are in it for sure and those that may be.

    Returns:
      `rows`, `sequences`, `design_effect`, `l0`, `dead` {count, share, `woken`: of those that are silent on the first half of
      the sequences, the share that fires on the second}, `ultra_rare` and `dense` {count, share, `sure`, `open`},
      `silent_below`: a latent that is silent here has a lower frequency than this at 95%, `rows_to_tell`: from so many
      rows on silence says that a latent is ultra-rare, `frequency` {median_of_alive, edges (log10), counts}.
    """
    firings, rows, width = counts.firings, counts.rows, len(counts.largest)
    low, high = counts.intervals()
    frequency, effect = firings / rows, counts.design_effect
    dead = firings == 0
    first = np.asarray(counts.by_sequence[: len(counts.sizes) // 2].sum(0)).ravel() > 0
    asleep = ~first if len(counts.sizes) > 1 else np.zeros(width, bool)
    alive = frequency[~dead]
    edges = np.arange(-12, 1) / 2
    return {
        "latents": width,
        "rows": rows,
        "sequences": len(counts.sizes),
        "design_effect": effect,
        "l0": firings.sum() / rows,
        "dead": _class(dead) | {"woken": (asleep & ~dead).sum() / asleep.sum() if asleep.any() else None},
        "ultra_rare": _class(frequency < RARE, high < RARE, low >= RARE),
        "dense": _class(frequency > DENSE, low > DENSE, high <= DENSE),
        "silent_below": float(clopper_pearson(0, rows / effect)[1]),
        "rows_to_tell": int(np.ceil(effect * np.log((1 - LEVEL) / 2) / np.log1p(-RARE))),
        "frequency": {
            "median_of_alive": float(np.median(alive)) if len(alive) else None,
            "edges": edges,
            "counts": np.histogram(np.log10(np.maximum(alive, 10.0 ** edges[0])), edges)[0],
        },
    }


def _class(held: np.ndarray, sure: np.ndarray | None = None, sure_not: np.ndarray | None = None) -> dict[str, Any]:
    """How many latents are in a class by their frequencies here, and by the ends of their intervals."""
    out = {"count": int(held.sum()), "share": held.mean()}
    if sure is None:
        return out
    return out | {"sure": int(sure.sum()), "open": int((~sure & ~sure_not).sum())}
