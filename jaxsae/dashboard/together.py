"""Which latents fire on the same rows: the correlation of firing (phi), from products of sparse matrices.

    phi = (R n_ij - n_i n_j) / sqrt(n_i (R - n_i) n_j (R - n_j))

of R rows, n_i on which i fires, n_ij on which both do. What fires together on fewer than FEWEST rows is left out: two latents
that fire once each, on the same row, would be perfectly correlated.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import scipy.sparse as sp

FEWEST = 3
PRODUCTS = 1 << 30  # multiply-adds that are spent on it, of rows by latents by latents
_AT_ONCE = 1 << 23


def together(
    own: sp.csc_matrix, others: sp.csc_matrix, shown: np.ndarray, count: int, same: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Of each latent `shown` of `own` [R, n] the latents of `others` [R, k] whose firing correlates best with its own.

    Args:
      same: they are the same latents, and none is listed beside itself.

    Returns:
      int32 [m, count], the best first, -1 where there are no more, and phi, float32, 0 there.
    """
    rows, (m, width) = own.shape[0], (len(shown), others.shape[1])
    ids, phi = np.full((m, count), -1, np.int32), np.zeros((m, count), np.float32)
    on_others = _on(others).tocsr()
    fires, there = np.diff(own.indptr).astype(np.float64), np.diff(others.indptr).astype(np.float64)
    for first, last in _stretches(own, np.diff(on_others.indptr), shown):
        some = shown[first:last]
        both = (_on(own[:, some]).T @ on_others).tocsr()
        row, column, n = np.repeat(np.arange(len(some)), np.diff(both.indptr)), both.indices, both.data
        kept = n >= FEWEST
        if same:
            kept &= column != some[row]
        row, column, n = row[kept], column[kept], n[kept].astype(np.float64)
        a, b = fires[some[row]], there[column]
        spread = np.sqrt(a * (rows - a)) * np.sqrt(b * (rows - b))
        found = np.divide(rows * n - a * b, spread, out=np.zeros(len(n)), where=spread > 0)
        kept = found > 0
        row, column, found = row[kept], column[kept], found[kept]
        order = np.lexsort((column, -found, row))
        row, column, found = row[order], column[order], found[order]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        kept = place < min(count, width)
        ids[first + row[kept], place[kept]] = column[kept]
        phi[first + row[kept], place[kept]] = found[kept]
    return ids, phi


def thinned(matrices: Mapping[str, sp.csc_matrix], budget: int = PRODUCTS) -> dict[str, sp.csc_matrix]:
    """The same on every s-th row, s the least that all pairs of them cost no more multiply-adds than `budget`."""
    per_row = sum(np.bincount(m.indices, minlength=m.shape[0]).astype(np.float64) for m in matrices.values())
    step = max(1, int(np.ceil(np.square(per_row).sum() / budget)))
    return {name: _every(m, step) for name, m in matrices.items()}


def _every(matrix: sp.csc_matrix, step: int) -> sp.csc_matrix:
    if step == 1:
        return matrix
    kept = matrix.indices % step == 0
    before = np.concatenate([[0], np.cumsum(kept)])
    rows = -(-matrix.shape[0] // step)
    return sp.csc_matrix(
        (matrix.data[kept], matrix.indices[kept] // step, before[matrix.indptr]), (rows, matrix.shape[1])
    )


def _stretches(own: sp.csc_matrix, active: np.ndarray, shown: np.ndarray) -> Iterator[tuple[int, int]]:
    """first:last of `shown`, as many at once as cost _AT_ONCE multiply-adds."""
    cost = np.cumsum((_on(own).T @ active.astype(np.float64))[shown])
    first = 0
    while first < len(shown):
        spent = cost[first - 1] if first else 0.0
        last = max(first + 1, int(np.searchsorted(cost, spent + _AT_ONCE, side="right")))
        yield first, last
        first = last


def _on(x: sp.csc_matrix) -> sp.csc_matrix:
    """1 where a latent is active."""
    return sp.csc_matrix((np.ones(x.nnz, np.float32), x.indices, x.indptr), x.shape)
