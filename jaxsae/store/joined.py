"""Two stores of the same tokens as one: another model's sites stand beside the first one's, for crosscoders of two models."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxsae.errors import InputError
from jaxsae.store.reader import Store, open_store
from jaxsae.store.schema import COLUMNS
from jaxsae.store.statistics import Statistics

BESIDE = "beside:"  # before the names of the other store's sites
STRETCHES, STRETCH = 64, 4096  # of rows whose tokens are compared, spread evenly; the last rows among them


class JoinedStore(Store):
    """A `Store` to read from, whose sites are those of two.

    Attributes:
      beside: the other store, whose sites are named with `BESIDE` before their names.
    """

    def __init__(self, url: str, beside: str):
        """Opens both.

        Raises:
          InputError: their rows are not the same tokens, or not all there; what `open_store` refuses.
        """
        super().__init__(url)
        self.beside = open_store(beside)
        self._check_same_tokens()
        self.sites = (*self.sites, *(BESIDE + site for site in self.beside.sites))

    def d_model(self, site: str) -> int:
        store, site = self._of(site)
        return store.d_model(site) if store is self.beside else super().d_model(site)

    def dtype(self, site: str) -> np.dtype:
        store, site = self._of(site)
        return store.dtype(site) if store is self.beside else super().dtype(site)

    def metadata(self, site: str) -> dict[str, Any]:
        store, site = self._of(site)
        return store.metadata(site) if store is self.beside else super().metadata(site)

    def statistics(self, site: str) -> Statistics:
        store, site = self._of(site)
        return store.statistics(site) if store is self.beside else super().statistics(site)

    def read(self, site: str, start: int, stop: int) -> np.ndarray:
        store, site = self._of(site)
        return store.read(site, start, stop) if store is self.beside else super().read(site, start, stop)

    def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> np.ndarray:
        if BESIDE in path:
            return self.beside.read_ranges(path.replace(BESIDE, "", 1), ranges)
        return super().read_ranges(path, ranges)

    def stream(self, path: str, ranges: Sequence[tuple[int, int]]) -> Iterator[np.ndarray]:
        if BESIDE in path:
            return self.beside.stream(path.replace(BESIDE, "", 1), ranges)
        return super().stream(path, ranges)

    def _of(self, site: str) -> tuple[Store, str]:
        """The store that has a site, and its name there."""
        return (self.beside, site.removeprefix(BESIDE)) if site.startswith(BESIDE) else (self, site)

    def _check_same_tokens(self) -> None:
        one, other = self, self.beside
        why = f"--beside={other.url}: its rows are not the tokens of --store={one.url} one by one: "
        fix = ". Harvest both from the same text, with one tokenizer, --context, --tokens and --documents."
        if one.rows_planned != other.rows_planned:
            raise InputError(f"{why}{other.rows_planned:,} and {one.rows_planned:,}{fix}")
        for store in (one, other):
            if store.rows != store.rows_planned:
                raise InputError(
                    f"--beside={other.url}: {store.url} has {store.rows:,} of {store.rows_planned:,} rows."
                )
        rows = one.rows
        starts = {rows * i // STRETCHES for i in range(STRETCHES)} | {max(0, rows - STRETCH)}
        for first in sorted(starts):
            for name in COLUMNS:
                a, b = (store.column(name, first, min(first + STRETCH, rows)) for store in (one, other))
                if not np.array_equal(a, b):
                    row = int(np.flatnonzero(a != b)[0])
                    raise InputError(f"{why}{name} of row {first + row} is {b[row]} and {a[row]}{fix}")
