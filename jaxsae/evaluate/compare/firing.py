"""Whether latents that point the same way fire on the same rows.

Of latents i and j, on rows that both dictionaries read: F1 = 2 both / (firings of i + firings of j), and Pearson's
correlation of their activations. Of each latent the best F1 over all of the other dictionary's is taken as well, and which
one has it: latents that fire alike and whose decoder rows differ are found by that alone. By chance: the same with the other
dictionary's rows in another order.
"""

import dataclasses
from typing import Any

import numpy as np
import scipy.sparse as sp

from jaxsae.dictionary import Dictionary
from jaxsae.evaluate.context import Context, check_finite
from jaxsae.evaluate.encoding import encode_rows
from jaxsae.progress import Progress
from jaxsae.store import select

CHUNK = 1024  # latents whose firings with all others stand in memory
FEWEST = 10  # rows that a latent fires on, for its F1 to count


class Rows:
    """Rows of the context's store, the last ones, of its own store only those that training never saw."""

    def __init__(self, context: Context, rows: int):
        """At most `rows` of them."""
        self._context = context
        self._ranges = select(context.ranges, max(0, context.rows - rows), context.rows)
        self.count = sum(stop - start for start, stop in self._ranges)

    def latents(self, dictionary: Dictionary, sites: tuple[str, ...]) -> sp.csr_matrix:
        """Active latents [rows, n] of what a dictionary reads there.

        Raises:
          InputError: NaN or Inf; the store has not these sites.
        """
        store, size, parts = self._context.store, self._context.config.batch_size, []
        with Progress(self.count, "compare", "row", scale=True) as bar:
            for start, stop in self._ranges:
                for first in range(start, stop, size):
                    last = min(first + size, stop)
                    x = np.concatenate([store.read(site, first, last).astype(np.float32) for site in sites], 1)
                    check_finite(x, f"{store.url}, site {'+'.join(sites)}", first)
                    parts.append(encode_rows(dictionary, x, size))
                    bar.advance(len(x))
        return sp.vstack(parts, format="csr")


@dataclasses.dataclass(frozen=True)
class Firing:
    """Of each latent of one side.

    Attributes:
      count: int [n], rows it fires on. partner: int [n], those that its nearest one by cosine fires on.
      f1, correlation: [n], with that one, NaN where either never fires.
      best_f1: [n], with whichever of the others has the largest; best: int [n], which that is, -1: none ever fires with it.
      chance: [n], the largest F1 where rows do not belong together.
    """

    count: np.ndarray
    partner: np.ndarray
    f1: np.ndarray
    correlation: np.ndarray
    best_f1: np.ndarray
    best: np.ndarray
    chance: np.ndarray

    @classmethod
    def of(cls, own: sp.csr_matrix, others: sp.csr_matrix, index: np.ndarray, seed: int) -> "Firing":
        """`own` [R, n] and `others` [R, m] on the same rows; index: int [n], the nearest by cosine, -1 where none."""
        own_c, others_c = own.tocsc(), others.tocsc()
        count = np.diff(own_c.indptr)
        paired = others_c[:, np.maximum(index, 0)]
        partner = np.diff(paired.indptr)
        f1 = np.where(index >= 0, _f1(_on(own_c).multiply(_on(paired)).sum(0), count, partner), np.nan)
        correlation = np.where(index >= 0, _correlation(own_c, paired), np.nan)
        best_f1, best = best_by_firing(own_c, others_c)
        shuffled = others[np.random.default_rng(seed).permutation(others.shape[0])].tocsc()
        return cls(count, partner, f1, correlation, best_f1, best, best_by_firing(own_c, shuffled)[0])

    def figures(self, pairs: np.ndarray, index: np.ndarray) -> dict[str, Any]:
        """Means over latents that fire on FEWEST rows or more.

        Args:
          pairs: bool [n], those that are shared and mutually nearest. index: as above.

        Returns:
          `alive` (latents that fire at all), `counted`; of the pairs `pairs`, `f1`, `pooled_f1` (each weighs as it fires, so
          that the many rare latents do not outweigh the rest), `correlation`, and `same_partner`, the share of them that
          firing would pair as the decoders do; of all `best_f1`, `best_f1_chance`.
        """
        often = self.count >= FEWEST
        told = often & pairs & np.isfinite(self.f1)
        firings = (self.count + self.partner)[told]
        mean = lambda values, of: float(np.nanmean(values[of])) if np.isfinite(values[of]).any() else None
        return {
            "alive": int((self.count > 0).sum()),
            "counted": int(often.sum()),
            "pairs": int(told.sum()),
            "f1": mean(self.f1, told),
            "pooled_f1": float((self.f1[told] * firings).sum() / firings.sum()) if told.any() else None,
            "correlation": mean(self.correlation, told),
            "same_partner": float((self.best == index)[told].mean()) if told.any() else None,
            "best_f1": mean(self.best_f1, often),
            "best_f1_chance": mean(self.chance, often),
        }


def best_by_firing(own: sp.csc_matrix, others: sp.csc_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Of each latent of `own` [R, n] the largest F1 with any of `others` [R, m], and which has it, -1 where all are 0."""
    fires, there = np.diff(own.indptr), np.diff(others.indptr)
    best, which, on_others = np.zeros(len(fires)), np.full(len(fires), -1), _on(others).tocsr()
    for first in range(0, len(fires), CHUNK):
        part = _on(own[:, first : first + CHUNK])
        both = (part.T @ on_others).tocsr()
        rows = np.repeat(np.arange(both.shape[0]), np.diff(both.indptr))
        f1 = _f1(both.data, fires[first + rows], there[both.indices])
        order = np.lexsort((both.indices, -f1, rows))  # the first of equal ones
        rows, first_of = np.unique(rows[order], return_index=True)
        best[first + rows], which[first + rows] = f1[order][first_of], both.indices[order][first_of]
    return best, which


def _on(x: sp.csc_matrix) -> sp.csc_matrix:
    """1 where a latent is active."""
    return sp.csc_matrix((np.ones(x.nnz, np.float32), x.indices, x.indptr), x.shape)


def _f1(both: np.ndarray, own: np.ndarray, others: np.ndarray) -> np.ndarray:
    both, sizes = np.asarray(both, np.float64).ravel(), np.float64(own) + others
    return np.divide(2 * both, sizes, out=np.full(len(both), np.nan), where=sizes > 0)


def _correlation(a: sp.csc_matrix, b: sp.csc_matrix) -> np.ndarray:
    """Pearson's, column by column, NaN of one that is constant."""
    a, b, rows = a.astype(np.float64), b.astype(np.float64), a.shape[0]
    mean = lambda x: np.asarray(x.sum(0)).ravel() / rows
    about = mean(a.multiply(b)) - mean(a) * mean(b)
    spread = (mean(a.multiply(a)) - mean(a) ** 2) * (mean(b.multiply(b)) - mean(b) ** 2)
    return np.divide(about, np.sqrt(spread), out=np.full(len(about), np.nan), where=spread > 0)
