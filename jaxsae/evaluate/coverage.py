"""How much of the board single latents say: coverage and board reconstruction (Karvonen et al., 2408.00113).

A classifier is "latent > t * its maximum" for t in 0, .1, ..., .9. Coverage of a target is the best F1 of
any classifier. A board is reconstructed from the classifiers that were precise on other games: a property
of the board is said to hold where one of its precise classifiers fires.
"""

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp

THRESHOLDS = tuple(t / 10 for t in range(10))
PRECISION = 0.95  # above which a classifier counts as precise
FEWEST = 10  # firings below which precision says nothing


def coverage(active_NxU: sp.csr_matrix, labels_NxT: np.ndarray) -> np.ndarray:
    """[T]: the best F1 of any unit at any threshold; 0 where no unit fires on a positive row.

    Args:
      active_NxU: entries above 0 alone.
      labels_NxT: bool.
    """
    labels = labels_NxT.astype(np.float32)  # exact: counts stay far below 2**24
    best = np.zeros(labels.shape[1])
    for _, fires in _classifiers(active_NxU, unit_maxima(active_NxU)):
        hits, count = _hits(fires, labels)
        best = np.maximum(best, (2 * hits / np.maximum(count[:, None] + labels.sum(0), 1)).max(0))
    return best


def board_f1(active_NxU: sp.csr_matrix, labels_NxT: np.ndarray, half: int) -> dict[str, float]:
    """F1, precision and recall over all boards and targets of the rows from `half` on.

    Maxima, precise classifiers and the one threshold that all share are chosen on the rows before `half`.
    """
    seen, unseen = labels_NxT[:half], labels_NxT[half:]
    as_float, maxima = seen.astype(np.float32), unit_maxima(active_NxU[:half])
    best, figures = -1.0, {}
    for threshold, fires in _classifiers(active_NxU[:half], maxima):
        hits, count = _hits(fires, as_float)
        precise = ((hits > PRECISION * count[:, None]) & (count[:, None] >= FEWEST)).astype(np.float32)
        found = f1_of_boards(fires @ precise > 0, seen)["board_f1"]
        if found > best:
            best = found
            on_unseen = _fires(active_NxU[half:], threshold * maxima) @ precise > 0
            figures = f1_of_boards(on_unseen, unseen)
    return figures


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
    return sp.csr_matrix(np.maximum(np.concatenate([centred, -centred], 1), 0))


def _classifiers(active_NxU: sp.csr_matrix, maxima: np.ndarray) -> Iterator[tuple[float, sp.csr_matrix]]:
    for threshold in THRESHOLDS:
        yield threshold, _fires(active_NxU, threshold * maxima)


def _fires(active_NxU: sp.csr_matrix, thresholds_U: np.ndarray) -> sp.csr_matrix:
    """float32 [N, U]: 1 where a unit is above its threshold."""
    on = active_NxU.data > thresholds_U[active_NxU.indices]
    before = np.concatenate([[0], np.cumsum(on)])
    ones = np.ones(before[-1], np.float32)
    return sp.csr_matrix((ones, active_NxU.indices[on], before[active_NxU.indptr]), active_NxU.shape)


def _hits(fires_NxU: sp.csr_matrix, labels_NxT: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows [U, T] where a unit fires and a target holds, and rows [U] where a unit fires."""
    return fires_NxU.T.tocsr() @ labels_NxT, np.bincount(fires_NxU.indices, minlength=fires_NxU.shape[1])
