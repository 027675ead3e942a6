"""Exact areas under ROC curves of many units for many yes/no questions, ties counted half.

AUROC = (R - P (P + 1) / 2) / (P (N - P)), R the sum of the ranks of the P positive rows out of N, tied
values sharing their mean rank. Latents are sparse: their zeros are one block of ties, so that only the
active entries are sorted and summed. Ranks are half-integers, exact in float64, and so are their sums.

A unit is sorted once: in that order the rows of either half are sorted too.
"""

import dataclasses
import itertools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

CHUNK = 32  # units that one thread has at once
THREADS = 8  # at most
Units = np.ndarray | sp.csc_matrix


@dataclasses.dataclass(frozen=True)
class Best:
    """The best single unit for each of T targets; NaN and -1 where a class is absent.

    Attributes:
      auroc: [T], the largest over the units, on all rows.
      unit: int [T], the unit that has it.
      held_out: [T], on the second half of the rows, of the unit that is best on the first half.
      chosen: int [T], that unit; U more where its negative is.
    """

    auroc: np.ndarray
    unit: np.ndarray
    held_out: np.ndarray
    chosen: np.ndarray


def auroc(units_NxU: Units, labels_NxT: np.ndarray) -> np.ndarray:
    """[U, T]: AUROC of each unit for each target, NaN where all labels are alike.

    Args:
      units_NxU: dense values, or a sparse matrix without entries of 0.
      labels_NxT: bool.
    """
    return np.concatenate([found for _, (found,) in _areas(units_NxU, labels_NxT, [(0, len(labels_NxT))])])


def best_units(units_NxU: Units, labels_NxT: np.ndarray, half: int, signed: bool = False, exclusive: int = 1) -> Best:
    """The best unit for each target, over all rows and chosen on the first `half` of them.

    Args:
      signed: whether a unit counts with its negative as well, as a direction without a sign must.
      exclusive: the targets are so many blocks of equal length, of which in each row exactly one holds, target by
        target; the sums of the first block are then what the others leave.
    """
    (rows, targets), width = labels_NxT.shape, units_NxU.shape[1]
    best, best_first, held_out = np.full(targets, -np.inf), np.full(targets, -np.inf), np.full(targets, np.nan)
    unit, chosen = np.full(targets, -1), np.full(targets, -1)
    cuts = [(0, rows), (0, half), (half, rows)]
    for start, found in _areas(units_NxU, labels_NxT, cuts, exclusive):
        whole, first, second = (_with_negatives(each, signed) for each in found)
        negative, place = np.divmod(np.arange(len(whole)), len(found[0]))
        numbers = start + place
        _improve(best, whole, (unit, np.broadcast_to(numbers[:, None], whole.shape)))
        signs = np.broadcast_to((numbers + negative * width)[:, None], whole.shape)
        _improve(best_first, first, (held_out, second), (chosen, signs))
    return Best(np.where(unit < 0, np.nan, best), unit, held_out, chosen)


def _improve(record_T: np.ndarray, figures_UxT: np.ndarray, *kept: tuple[np.ndarray, np.ndarray]) -> None:
    """Where the best of some units beats a target's record it becomes the record, and of each (kept [T], offered [U, T])
    what it offers is kept."""
    target = np.arange(len(record_T))
    top = np.where(np.isnan(figures_UxT), -np.inf, figures_UxT).argmax(0)
    better = figures_UxT[top, target] > record_T
    for kept_T, offered_UxT in ((record_T, figures_UxT), *kept):
        kept_T[better] = offered_UxT[top, target][better]


def _with_negatives(auroc_UxT: np.ndarray, signed: bool) -> np.ndarray:
    """[2U, T] with the AUROCs of the negated units below, where they count."""
    return np.concatenate([auroc_UxT, 1 - auroc_UxT]) if signed else auroc_UxT


def _areas(
    units_NxU: Units, labels_NxT: np.ndarray, cuts: Sequence[tuple[int, int]], exclusive: int = 1
) -> Iterator[tuple[int, list[np.ndarray]]]:
    """(first unit, AUROCs [some units, T] of the rows of each cut), some units after others, in order."""
    units = units_NxU.tocsc() if sp.issparse(units_NxU) else np.asarray(units_NxU)
    told = labels_NxT.shape[1] // exclusive if exclusive > 1 else 0
    labels = np.asarray(labels_NxT[:, told:], np.float64)
    rows = np.array([stop - start for start, stop in cuts], np.float64)
    positives = np.array([labels_NxT[start:stop].sum(0) for start, stop in cuts], np.float64)
    rank_sums = _sparse_sums if sp.issparse(units) else _dense_sums

    def areas(start: int) -> tuple[int, list[np.ndarray]]:
        out, part = [], units[:, start : start + CHUNK]
        for sums, n, p in zip(rank_sums(part, labels, positives[:, told:], cuts), rows, positives, strict=True):
            if told:
                others = sums.reshape(len(sums), exclusive - 1, told).sum(1)
                sums = np.concatenate([n * (n + 1) / 2 - others, sums], 1)
            with np.errstate(invalid="ignore", divide="ignore"):
                out.append((sums - p * (p + 1) / 2) / (p * (n - p)))
        return start, out

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(min(os.cpu_count() or 1, THREADS)) as pool:
        yield from pool.map(areas, range(0, units.shape[1], CHUNK))


def _dense_sums(
    units_NxU: np.ndarray, labels_NxT: np.ndarray, positives: Sequence[np.ndarray], cuts: Sequence[tuple[int, int]]
) -> list[np.ndarray]:
    """For each cut [U, T]: the sum of the ranks among the rows of the cut where a target holds; `positives` says how many
    those are."""
    ranks = [np.empty((units_NxU.shape[1], stop - start)) for start, stop in cuts]
    for u, column in enumerate(units_NxU.T):
        column = np.ascontiguousarray(column)
        order = np.argsort(column)
        for (start, stop), ranks_UxN in zip(cuts, ranks, strict=True):
            here = order if stop - start == len(order) else order[(order >= start) & (order < stop)]
            ranks_UxN[u, here - start] = 1 + _mean_places(column[here])
    return [part @ labels_NxT[start:stop] for (start, stop), part in zip(cuts, ranks, strict=True)]


def _mean_places(ascending_N: np.ndarray, column_N: np.ndarray | None = None) -> np.ndarray:
    """[N]: places from 0 of ascending values, of each column by itself; runs of equal ones share the mean of theirs."""
    starts_run = np.ones(len(ascending_N), bool)
    starts_run[1:] = ascending_N[1:] != ascending_N[:-1]
    if column_N is not None:
        starts_run[1:] |= column_N[1:] != column_N[:-1]
    if starts_run.all():
        return np.arange(len(ascending_N), dtype=np.float64)
    first = np.flatnonzero(starts_run)
    last = np.append(first[1:], len(ascending_N)) - 1
    return ((first + last) / 2)[np.cumsum(starts_run) - 1]


def _sparse_sums(
    units_NxU: sp.csc_matrix,
    labels_NxT: np.ndarray,
    positives: Sequence[np.ndarray],
    cuts: Sequence[tuple[int, int]],
) -> list[np.ndarray]:
    """As `_dense_sums`, of the entries: their ranks less that of the zeros of their unit, which all rows have besides."""
    ends, width = units_NxU.indptr, units_NxU.shape[1]
    parts = [np.argsort(units_NxU.data[a:b]) + a for a, b in itertools.pairwise(ends)]
    order = np.concatenate([np.zeros(0, np.int64), *parts])
    column = np.repeat(np.arange(width), np.diff(ends))
    row, value, out = units_NxU.indices[order], units_NxU.data[order], []
    for (start, stop), positives_T in zip(cuts, positives, strict=True):
        here = (row >= start) & (row < stop)
        at, col, val = order[here], column[here], value[here]
        active = np.bincount(col, minlength=width)
        before, zeros = np.concatenate([[0], np.cumsum(active)]), stop - start - active
        zero_rank = np.bincount(col[val < 0], minlength=width) + (zeros + 1) / 2
        ranks = np.zeros(len(order))  # in the matrix's own order, so that labels are read in theirs
        ranks[at] = np.where(val > 0, zeros[col], 0) + _mean_places(val, col) - before[col] + 1 - zero_rank[col]
        kept = np.zeros(len(order), bool)
        kept[at] = True
        by_unit = sp.csr_matrix((ranks[kept], units_NxU.indices[kept] - start, before), (width, stop - start))
        out.append(by_unit @ labels_NxT[start:stop] + zero_rank[:, None] * positives_T)
    return out
