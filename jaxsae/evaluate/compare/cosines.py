"""Nearest rows of two decoders by cosine, in blocks: rows x rows never stands in memory.

Of each row the nearest of the other side, its cosine, and the cosine of the second nearest; the same for the other side, in
one pass. Latents of both signs (abstopk) count by |cosine|.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

BLOCK = 4096  # rows of either side at once
HUNGARIAN = 4096  # rows of either side, at most, that are matched one to one


@dataclasses.dataclass(frozen=True)
class Nearest:
    """Of n rows among others.

    Attributes:
      index: int [n], -1 of a row without a direction. cosine: float32 [n], 0 of such. second: float32 [n], of the second
        nearest, NaN where there is none.
    """

    index: np.ndarray
    cosine: np.ndarray
    second: np.ndarray

    @property
    def there(self) -> np.ndarray:
        """bool [n]: rows that have a direction."""
        return self.index >= 0


class _Running:
    """The best and second best so far of n rows."""

    def __init__(self, rows: int):
        self.index = np.full(rows, -1)
        self.top, self.second = (np.full(rows, -np.inf, np.float32) for _ in range(2))

    def take(self, at: slice, first: int, best: np.ndarray, top: np.ndarray, second: np.ndarray) -> None:
        """Takes in the best of a block of others, which begins at `first`; of equal ones the first stays."""
        size = at.stop - at.start
        best, top, second = (np.asarray(a)[:size] for a in (best, top, second))
        old = self.top[at].copy()
        better = top > old
        self.index[at] = np.where(better, best + first, self.index[at])
        self.second[at] = np.where(better, np.maximum(old, second), np.maximum(self.second[at], top))
        self.top[at] = np.maximum(old, top)

    def nearest(self) -> Nearest:
        there = np.isfinite(self.top)
        second = np.where(np.isfinite(self.second), self.second, np.nan)
        return Nearest(np.where(there, self.index, -1), np.where(there, self.top, 0), second)


def nearest(
    a_NxD: np.ndarray, b_MxD: np.ndarray, absolute: bool = False, block: int = BLOCK
) -> tuple[Nearest, Nearest]:
    """Of each row of `a` the nearest of `b`, and of each of `b` the nearest of `a`.

    Args:
      a_NxD, b_MxD: float32 rows of length 1, or of length 0, which are near to nothing.
    """
    rows, columns = _Running(len(a_NxD)), _Running(len(b_MxD))
    sizes = [min(block, 1 << max(0, len(x) - 1).bit_length()) for x in (a_NxD, b_MxD)]
    for i in range(0, len(a_NxD), sizes[0]):
        a = _filled(a_NxD[i : i + sizes[0]], sizes[0])
        for j in range(0, len(b_MxD), sizes[1]):
            b = _filled(b_MxD[j : j + sizes[1]], sizes[1])
            of_rows, of_columns = _block(a, b, absolute)
            rows.take(slice(i, min(i + sizes[0], len(a_NxD))), j, *of_rows)
            columns.take(slice(j, min(j + sizes[1], len(b_MxD))), i, *of_columns)
    return rows.nearest(), columns.nearest()


@partial(jax.jit, static_argnames="absolute")
def _block(a: jax.Array, b: jax.Array, absolute: bool) -> tuple[tuple, tuple]:
    cosines = jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)
    cosines = jnp.abs(cosines) if absolute else cosines
    real = a.any(1)[:, None] & b.any(1)[None]
    cosines = jnp.where(real, cosines, -jnp.inf)
    return _best(cosines), _best(cosines.T)


def _best(cosines: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    best = cosines.argmax(1)
    others = jnp.where(jnp.arange(cosines.shape[1]) == best[:, None], -jnp.inf, cosines)
    return best, cosines.max(1), others.max(1)


def _filled(x: np.ndarray, size: int) -> np.ndarray:
    return np.pad(x, ((0, size - len(x)), (0, 0)))


def mcc(a_NxD: np.ndarray, b_MxD: np.ndarray, absolute: bool = False) -> float | None:
    """Mean cosine of the one-to-one matching that has the largest sum (Hungarian), over the pairs of it; None where either
    side has more than HUNGARIAN rows, or none."""
    sizes = len(a_NxD), len(b_MxD)
    if min(sizes) == 0 or max(sizes) > HUNGARIAN:
        return None
    cosines = a_NxD @ b_MxD.T
    cosines = np.abs(cosines) if absolute else cosines
    return float(cosines[linear_sum_assignment(cosines, maximize=True)].mean())


def summed(a_NxD: np.ndarray, b_MxD: np.ndarray, parts: int, absolute: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """How near rows of `a` come to sums of rows of `b`, taken one by one, each the nearest to what is left.

    The weights are those that fit a row best (least squares); where one would be negative, of latents that are not of both
    signs, the row takes no more of them.

    Returns:
      float32 [N, parts], the cosine with the sum of the first 1, 2, ... of them, and int [N, parts], which they are, -1 where
      none was taken.
    """
    count = len(a_NxD)
    cosines, chosen = np.zeros((count, parts), np.float32), np.full((count, parts), -1)
    left, going = a_NxD.copy(), np.arange(count)
    for part in range(parts):
        if not len(going):
            break
        found, _ = nearest(unit(left[going]), b_MxD, absolute)
        chosen[going, part] = found.index
        going = going[found.there]
        rows = b_MxD[chosen[going, : part + 1]].astype(np.float64)  # [some, part + 1, d]
        products = rows @ rows.transpose(0, 2, 1)
        aims = np.einsum("npd,nd->np", rows, a_NxD[going])
        weights = np.einsum("npq,nq->np", np.linalg.pinv(products, hermitian=True), aims)
        fits = np.ones(len(going), bool) if absolute else (weights > 0).all(1)
        chosen[going[~fits], part] = -1
        going, rows, weights = going[fits], rows[fits], weights[fits]
        total = np.einsum("npd,np->nd", rows, weights)
        left[going] = a_NxD[going] - total
        cosines[going, part] = np.einsum("nd,nd->n", unit(total), a_NxD[going])
    return np.maximum.accumulate(cosines, 1), chosen


def unit(x: np.ndarray) -> np.ndarray:
    """float32 rows at length 1; of what is left of a row by rounding alone, 0."""
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    return np.divide(x, norms, out=np.zeros_like(x), where=norms > 1e-5).astype(np.float32)
