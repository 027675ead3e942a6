"""The rows of one site as an array that is read where it is indexed."""

from collections.abc import Callable, Sequence

import numpy as np

from jaxsae.store.ranges import select

Read = Callable[[Sequence[tuple[int, int]]], np.ndarray]


class SiteView:
    """The complete rows of a site, in order, [rows, d_model]: `view[a:b]`, `view[i]`, `view[[3, 1, 4]]` read those alone.

    Where the harvest was cut short, or shards were trained on and removed, rows are counted over those that are left.

    Attributes:
      shape: (rows, d_model). dtype: as stored.
    """

    def __init__(self, read: Read, ranges: Sequence[tuple[int, int]], d_model: int, dtype: np.dtype):
        """`read` gives the rows of several of the store's ranges in one piece; `ranges` are those that are complete."""
        self._read, self._ranges = read, list(ranges)
        self.shape, self.dtype, self.ndim = (sum(b - a for a, b in self._ranges), d_model), np.dtype(dtype), 2

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice | Sequence[int]) -> np.ndarray:
        """Raises `IndexError` of rows that there are not; `InputError` of a damaged file."""
        if isinstance(rows, slice):
            first, last, step = rows.indices(len(self))
            if step != 1:
                return self[range(first, last, step)]
            return self._stretch(first, last) if last > first else np.empty((0, self.shape[1]), self.dtype)
        if np.ndim(rows) == 0:
            return self[[rows]][0]
        wanted = np.asarray(rows)
        wanted = np.flatnonzero(wanted) if wanted.dtype == bool else np.where(wanted < 0, wanted + len(self), wanted)
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"rows {wanted.min()} to {wanted.max()} of {len(self)}")
        order = np.unique(wanted)
        out = np.empty((len(order), self.shape[1]), self.dtype)
        for at in np.split(np.arange(len(order)), np.flatnonzero(np.diff(order) > 1) + 1):  # stretches of neighbours
            if len(at):
                out[at] = self._stretch(int(order[at[0]]), int(order[at[-1]]) + 1)
        return out[np.searchsorted(order, wanted)]

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def __repr__(self) -> str:
        return f"SiteView(shape={self.shape}, dtype={self.dtype})"

    def _stretch(self, first: int, last: int) -> np.ndarray:
        return self._read(select(self._ranges, first, last))
