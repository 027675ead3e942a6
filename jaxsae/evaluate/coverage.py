"""How much of the board single latents say: coverage and board reconstruction (Karvonen et al., 2408.00113).

A classifier is "latent > t * its maximum" for t in 0, .1, ..., .9. Coverage of a target is the best F1 of
any classifier. A board is reconstructed from the classifiers that were precise on other games: a property
of the board is said to hold where one of its precise classifiers fires.

What is above one threshold is above all lower ones, so that rows are counted once, by the highest threshold that each passes.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp

THRESHOLDS = tuple(t / 10 for t in range(10))
PRECISION = 0.95  # above which a classifier counts as precise
FEWEST = 10  # firings below which precision says nothing
ROWS = 8192  # of which labels stand as numbers at once


@dataclasses.dataclass(frozen=True)
class Precise:
    """Classifiers that were precise, and the threshold that all share.

    Attributes:
      thresholds: [U]. targets: bool [U, T], what each says where it fires.
    """

    thresholds: np.ndarray
    targets: np.ndarray

    def says(self, active_NxU: sp.csr_matrix) -> np.ndarray:
        """bool [N, T]: whether a precise classifier of the target fires."""
        kept = np.flatnonzero(self.targets.any(1))
        return _fires(active_NxU[:, kept], self.thresholds[kept]) @ self.targets[kept].astype(np.float32) > 0


def coverage(active_NxU: sp.csr_matrix, labels_NxT: np.ndarray, exclusive: int = 1) -> np.ndarray:
    """[T]: the best F1 of any unit at any threshold; 0 where no unit fires on a positive row.

    Args:
      active_NxU: entries above 0 alone.
      labels_NxT: bool. exclusive: as `auroc.best_units`.
    """
    holds, best = labels_NxT.sum(0), np.zeros(labels_NxT.shape[1])
    for hits, count in _by_threshold(active_NxU, unit_maxima(active_NxU), labels_NxT, exclusive):
        best = np.maximum(best, (2 * hits / np.maximum(count[:, None] + holds, 1)).max(0))
    return best


def board_f1(active_NxU: sp.csr_matrix, labels_NxT: np.ndarray, half: int, exclusive: int = 1) -> dict[str, float]:
    """F1, precision and recall over all boards and targets of the rows from `half` on.

    Maxima, precise classifiers and the one threshold that all share are chosen on the rows before `half`.
    """
    chosen = precise_classifiers(active_NxU[:half], labels_NxT[:half], exclusive)
    return f1_of_boards(chosen.says(active_NxU[half:]), labels_NxT[half:])


def precise_classifiers(active_NxU: sp.csr_matrix, labels_NxT: np.ndarray, exclusive: int = 1) -> Precise:
    """Those of the threshold with the best F1 over all boards of these rows."""
    maxima, best, chosen = unit_maxima(active_NxU), -1.0, None
    for t, (hits, count) in enumerate(_by_threshold(active_NxU, maxima, labels_NxT, exclusive)):
        precise = (hits > PRECISION * count[:, None]) & (count[:, None] >= FEWEST)
        here = Precise(THRESHOLDS[t] * maxima, precise)
        found = f1_of_boards(here.says(active_NxU), labels_NxT)["board_f1"]
        if found > best:
            best, chosen = found, here
    return chosen


def f1_of_boards(said_NxT: np.ndarray, labels_NxT: np.ndarray) -> dict[str, float]:
    """F1, precision and recall of what is said of all boards together; 0 where nothing is said."""
    hits, said, true = (said_NxT & labels_NxT).sum(), said_NxT.sum(), labels_NxT.sum()
    return {
        "board_f1": float(2 * hits / max(said + true, 1)),
        "board_precision": float(hits / max(said, 1)),
        "board_recall": float(hits / max(true, 1)),
    }


def unit_maxima(active_NxU: sp.csr_matrix) -> np.ndarray:
    """[U]: the largest value of each unit, 0 where it is never active."""
    return active_NxU.max(axis=0).toarray().ravel()


def both_halves(directions_NxU: np.ndarray) -> sp.csr_matrix:
    """[N, 2U]: the positive parts of each unit and of its negative, as latents would have them."""
    centred = directions_NxU - directions_NxU.mean(0)
    (rows, width), on = centred.shape, centred != 0
    column = np.arange(width, dtype=np.int32) + np.where(centred > 0, 0, width).astype(np.int32)
    indptr = np.concatenate([[0], np.cumsum(on.sum(1))])
    return sp.csr_matrix((np.abs(centred[on]), column[on], indptr), (rows, 2 * width))


def _by_threshold(
    active_NxU: sp.csr_matrix, maxima_U: np.ndarray, labels_NxT: np.ndarray, exclusive: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each threshold the rows [U, T] where a unit fires and a target holds, and those [U] where a unit fires."""
    width, levels = active_NxU.shape[1], len(THRESHOLDS)
    told = labels_NxT.shape[1] // exclusive if exclusive > 1 else 0
    hits = np.zeros((width * levels, labels_NxT.shape[1] - told), np.float32)  # exact: counts stay far below 2**24
    count = np.zeros(width * levels, np.int64)
    thresholds = [threshold * maxima_U for threshold in THRESHOLDS]
    for first in range(0, active_NxU.shape[0], ROWS):
        part = active_NxU[first : first + ROWS]
        passed = sum(part.data > each[part.indices] for each in thresholds) if part.nnz else np.zeros(0, int)
        on = passed > 0
        place = part.indices[on].astype(np.int64) * levels + passed[on] - 1
        before = np.concatenate([[0], np.cumsum(on)])[part.indptr]
        fires = sp.csr_matrix((np.ones(len(place), np.float32), place, before), (part.shape[0], width * levels))
        hits += fires.T.tocsr() @ labels_NxT[first : first + ROWS, told:].astype(np.float32)
        count += np.bincount(place, minlength=width * levels)
    from_above = lambda a: np.cumsum(a.reshape(width, levels, -1)[:, ::-1], 1)[:, ::-1]
    hits, count = from_above(hits), from_above(count)[..., 0]
    for level in range(levels):
        here = hits[:, level]
        if told:
            rest = count[:, [level]] - here.reshape(width, exclusive - 1, told).sum(1)
            here = np.concatenate([rest, here], 1)
        yield here, count[:, level]


def _fires(active_NxU: sp.csr_matrix, thresholds_U: np.ndarray) -> sp.csr_matrix:
    """float32 [N, U]: 1 where a unit is above its threshold."""
    on = active_NxU.data > thresholds_U[active_NxU.indices]
    before = np.concatenate([[0], np.cumsum(on)])
    ones = np.ones(before[-1], np.float32)
    return sp.csr_matrix((ones, active_NxU.indices[on], before[active_NxU.indptr]), active_NxU.shape)
