"""How often and how strongly latents are active, from their matrix; of latents of both signs (abstopk) sizes count."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp

_ENTRIES = 1 << 21  # that are looked at together


@dataclasses.dataclass(frozen=True)
class Strengths:
    """Of n latents.

    Attributes:
      frequency, mean, most: float32 [n]: share of the rows, and mean and largest size where a latent is active, 0 of one
        that never is. count: int64 [n], rows.
    """

    frequency: np.ndarray
    mean: np.ndarray
    most: np.ndarray
    count: np.ndarray

    @classmethod
    def of(cls, latents: sp.csc_matrix) -> "Strengths":
        """Of latents [rows, n]."""
        rows, width = latents.shape
        count, total, most = np.diff(latents.indptr).astype(np.int64), np.zeros(width), np.zeros(width, np.float32)
        for some in stretches(latents.indptr):
            size = np.abs(latents.data[latents.indptr[some.start] : latents.indptr[some.stop]])
            there = some.start + np.flatnonzero(count[some])
            if len(there):
                begins = latents.indptr[there] - latents.indptr[some.start]
                total[there] = np.add.reduceat(size, begins, dtype=np.float64)
                most[there] = np.maximum.reduceat(size, begins)
        mean = total / np.maximum(count, 1)
        return cls(np.float32(count / max(rows, 1)), np.float32(mean), most, count)


def stretches(starts: np.ndarray, entries: int = _ENTRIES) -> Iterator[slice]:
    """All columns in turn, some at once, that have about so many entries together; starts: int [n + 1], as `indptr` is."""
    first, width = 0, len(starts) - 1
    while first < width:
        last = int(np.searchsorted(starts, starts[first] + entries, side="right")) - 1
        last = min(max(last, first + 1), width)
        yield slice(first, last)
        first = last


def histogram(latents: sp.csc_matrix, most: np.ndarray, bins: int) -> np.ndarray:
    """int32 [m, bins]: rows by size, equal bins from 0 to `most` [m], which counts into the last."""
    m = latents.shape[1]
    column = np.repeat(np.arange(m), np.diff(latents.indptr))
    part = np.minimum(np.abs(latents.data, dtype=np.float64) / most[column] * bins, bins - 1).astype(np.int64)
    return np.bincount(column * bins + part, minlength=m * bins).reshape(m, bins).astype(np.int32)
