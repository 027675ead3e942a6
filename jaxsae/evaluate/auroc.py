"""Exact areas under ROC curves of many units for many yes/no questions, ties counted half.

AUROC = (R - P (P + 1) / 2) / (P (N - P)), R the sum of the ranks of the P positive rows out of N, tied
values sharing their mean rank. Latents are sparse: their zeros are one block of ties, so that only the
active entries are sorted and summed. Ranks are half-integers, exact in float64.
"""

import dataclasses

import numpy as np
import scipy.sparse as sp
from scipy.stats import rankdata

CHUNK = 4096  # units whose figures stand in memory at once
Units = np.ndarray | sp.csc_matrix


@dataclasses.dataclass(frozen=True)
class Best:
    """The best single unit for each of T targets; NaN and -1 where a class is absent.

    Attributes:
      auroc: [T], the largest over the units, on all rows.
      unit: int [T], the unit that has it.
      held_out: [T], on the second half of the rows, of the unit that is best on the first half.
    """

    auroc: np.ndarray
    unit: np.ndarray
    held_out: np.ndarray


def auroc(units_NxU: Units, labels_NxT: np.ndarray) -> np.ndarray:
    """[U, T]: AUROC of each unit for each target, NaN where all labels are alike.

    Args:
      units_NxU: dense values, or a sparse matrix without entries of 0.
      labels_NxT: bool.
    """
    labels = np.asarray(labels_NxT, np.float64)
    rows, positives = len(labels), labels.sum(0)
    if sp.issparse(units_NxU):
        ranks, zero_rank = _sparse_ranks(units_NxU)
        sums = ranks.T @ labels + zero_rank[:, None] * positives
    else:
        sums = rankdata(units_NxU, axis=0).T @ labels
    with np.errstate(invalid="ignore", divide="ignore"):
        return (sums - positives * (positives + 1) / 2) / (positives * (rows - positives))


def _sparse_ranks(units_NxU: sp.csc_matrix) -> tuple[sp.csc_matrix, np.ndarray]:
    """Ranks of the entries less the rank of the zeros of their unit, and the ranks of the zeros [U]."""
    units = sp.csc_matrix(units_NxU)
    active = np.diff(units.indptr)
    column = np.repeat(np.arange(units.shape[1]), active)
    order = np.lexsort((units.data, column))
    value, zeros = units.data[order], units.shape[0] - active
    # Runs of equal values within a unit share the mean of their places.
    starts_run = np.ones(len(value), bool)
    starts_run[1:] = (value[1:] != value[:-1]) | (column[1:] != column[:-1])
    first = np.flatnonzero(starts_run)
    last = np.append(first[1:], len(value)) - 1
    run = np.cumsum(starts_run) - 1
    place = ((first + last) / 2)[run] - units.indptr[column] + 1
    negative = np.bincount(column[value < 0] if len(value) else [], minlength=units.shape[1])
    zero_rank = negative + (zeros + 1) / 2
    ranks = np.empty(len(value))
    ranks[order] = np.where(value > 0, zeros[column], 0) + place - zero_rank[column]
    return sp.csc_matrix((ranks, units.indices, units.indptr), units.shape), zero_rank


def best_units(units_NxU: Units, labels_NxT: np.ndarray, half: int, signed: bool = False) -> Best:
    """The best unit for each target, over all rows and chosen on the first `half` of them.

    Args:
      signed: whether a unit counts with its negative as well, as a direction without a sign must.
    """
    targets = labels_NxT.shape[1]
    best, held_out = np.full(targets, -np.inf), np.full(targets, np.nan)
    best_first, unit = best.copy(), np.full(targets, -1)
    units = units_NxU.tocsc() if sp.issparse(units_NxU) else units_NxU
    for start in range(0, units.shape[1], CHUNK):
        part = units[:, start : start + CHUNK]
        by_row = part.tocsr() if sp.issparse(part) else part  # halves are cut by rows
        cuts = ((part, labels_NxT), (by_row[:half], labels_NxT[:half]), (by_row[half:], labels_NxT[half:]))
        whole, first, second = (_with_negatives(auroc(x, y), signed) for x, y in cuts)
        numbers = start + np.arange(len(whole)) % part.shape[1]
        _improve(best, whole, unit, np.broadcast_to(numbers[:, None], whole.shape))
        _improve(best_first, first, held_out, second)
    return Best(np.where(unit < 0, np.nan, best), unit, held_out)


def _improve(record_T: np.ndarray, figures_UxT: np.ndarray, kept_T: np.ndarray, offered_UxT: np.ndarray) -> None:
    """Where the best of some units beats a target's record it becomes the record, and what it offers is kept."""
    target = np.arange(len(record_T))
    top = np.where(np.isnan(figures_UxT), -np.inf, figures_UxT).argmax(0)
    better = figures_UxT[top, target] > record_T
    record_T[better] = figures_UxT[top, target][better]
    kept_T[better] = offered_UxT[top, target][better]


def _with_negatives(auroc_UxT: np.ndarray, signed: bool) -> np.ndarray:
    """[2U, T] with the AUROCs of the negated units below, where they count."""
    return np.concatenate([auroc_UxT, 1 - auroc_UxT]) if signed else auroc_UxT


def active_matrix(values: np.ndarray, indices: np.ndarray, width: int) -> sp.csr_matrix:
    """Sparse latents [B, k] as a matrix [B, width] that holds only what is active."""
    on = values != 0
    indptr = np.concatenate([[0], np.cumsum(on.sum(1))])
    matrix = sp.csr_matrix((values[on], indices[on], indptr), (len(values), width))
    matrix.sort_indices()
    return matrix
