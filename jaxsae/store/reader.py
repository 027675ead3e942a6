"""Opens a store, whole or cut short: what is in it and which of its rows are there."""

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorstore as ts

from jaxsae.errors import InputError
from jaxsae.paths import check_encoding
from jaxsae.progress import say
from jaxsae.store import location, schema
from jaxsae.store.ranges import joined
from jaxsae.store.rows import AGAIN, Rows, first_words
from jaxsae.store.schema import COLUMNS
from jaxsae.store.statistics import Statistics
from jaxsae.store.view import SiteView
from jaxsae.store.writer import list_keys, merged_statistics, open_array


class Store:
    """Activations of some sites, row by row, and where each row comes from; see `open_store`.

    Attributes:
      url: as it was given.
      sites: site names.
      rows_planned: rows of the complete store.
      shard_rows, chunk_rows: rows of a shard (a file), and of a chunk in it (the unit of reading).
      completed_shards: those that every array has. consumed: those that were trained on and removed.
    """

    def __init__(self, url: str | os.PathLike):
        self.url = os.fspath(url)
        _check_there(url)
        self._kvstore = location.open_kvstore(url)
        found = self._listed()
        self.sites = tuple(path.split("/")[1] for path in found if path not in COLUMNS)
        self._check_arrays(found)
        self._arrays = {path: self._open(path) for path in found}
        self._attributes = {
            path: a.spec().to_json()["metadata"].get("attributes", {}) for path, a in self._arrays.items()
        }
        self._check_rows()
        layout = self._arrays[schema.site_path(self.sites[0])].chunk_layout
        self.shard_rows, self.chunk_rows = layout.write_chunk.shape[0], layout.read_chunk.shape[0]
        self.completed_shards = sorted(set.intersection(*found.values()))
        self._rows = Rows(self.url, self._arrays, self.rows_planned, self.shard_rows)
        self._statistics: dict[str, Statistics] = {}

    @property
    def rows(self) -> int:
        """Complete rows: those that every array has."""
        return sum(stop - start for start, stop in self.available)

    @property
    def available(self) -> list[tuple[int, int]]:
        """The complete rows as ascending ranges (first row, row after the last)."""
        return self._ranges(self.completed_shards)

    @property
    def missing(self) -> list[tuple[int, int]]:
        """The rows that a second harvest would write, as ranges."""
        shards = -(-self.rows_planned // self.shard_rows)
        return self._ranges(sorted(set(range(shards)) - set(self.completed_shards) - self.consumed))

    def refresh(self) -> None:
        """Looks again which shards there are."""
        found = self._listed()
        self.completed_shards = sorted(set.intersection(*(found.get(path, set()) for path in self._arrays)))

    def statistics_of(self, site: str, shards: Sequence[int]) -> Statistics:
        """Mean and scale of a site over some shards alone, removed ones among them."""
        self._site(site)
        return merged_statistics(self._kvstore, list(shards), [site])[site]

    def remove(self, site: str, shards: Sequence[int]) -> None:
        """Removes the activations of shards that nobody needs any more; what says where rows came from stays."""
        for shard in shards:
            # The mark first: a harvest that finds neither would write the shard again.
            self._kvstore.write(schema.consumed_path(shard), b"").result()
            self._kvstore.write(f"{schema.site_path(site)}/c/{shard}/0", None).result()

    @property
    def complete(self) -> bool:
        """Whether every planned row is there and the harvest was finished."""
        return not self.missing and all(a.get("complete", False) for a in self._attributes.values())

    def d_model(self, site: str) -> int:
        """Width of a site's activations."""
        return self._site(site).shape[1]

    def dtype(self, site: str) -> np.dtype:
        """NumPy dtype of a site's activations."""
        return self._site(site).dtype.numpy_dtype

    def metadata(self, site: str) -> dict[str, Any]:
        """The attributes of a site's array: model, tokenizer, context, settings, ..."""
        self._site(site)
        return self._attributes[schema.site_path(site)]

    def statistics(self, site: str) -> Statistics:
        """Mean and scale of a site; of the complete shards alone where the harvest was cut short."""
        attributes = self.metadata(site)
        if "mean" in attributes:
            return Statistics.from_attributes(attributes)
        shards = [s for s in self.completed_shards if s in self._stats_shards]
        if not shards:
            raise InputError(f"{self.url}: no statistics yet, since no shard is complete. {AGAIN}")
        if not self._statistics:
            self._statistics = merged_statistics(self._kvstore, shards, list(self.sites))
        return self._statistics[site]

    def read(self, site: str, start: int, stop: int) -> np.ndarray:
        """Activations [stop - start, d_model] in the stored dtype; rows are counted over the whole store.

        Raises:
          InputError: no such site, rows outside the store or not written, a damaged file.
        """
        self._site(site)
        return self.read_ranges(schema.site_path(site), [(start, stop)])

    def view(self, site: str) -> SiteView:
        """The complete rows of a site as an array that is read where it is indexed; raises as `read` does."""
        self._site(site)
        read = partial(self.read_ranges, schema.site_path(site))
        return SiteView(read, self.available, self.d_model(site), self.dtype(site))

    def column(self, name: str, start: int, stop: int) -> np.ndarray:
        """int32 [stop - start] of "tokens", "sequence" or "position"; raises as `read` does."""
        if name not in COLUMNS:
            raise InputError(f"{self.url}: no column {name!r}. There are: {', '.join(COLUMNS)}")
        return self.read_ranges(name, [(start, stop)])

    def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> np.ndarray:
        """Rows of several ranges of one array, in one piece; see `Rows.read`."""
        return self._rows.read(path, ranges)

    def stream(self, path: str, ranges: Sequence[tuple[int, int]]) -> Iterator[np.ndarray]:
        """The rows of each range of one array, one after the other; see `Rows.stream`."""
        return self._rows.stream(path, ranges)

    def _site(self, site: str) -> ts.TensorStore:
        if site not in self.sites:
            raise InputError(f"--site={site}: not in {self.url}. This store has: {', '.join(self.sites)}")
        return self._arrays[schema.site_path(site)]

    def _listed(self) -> dict[str, set[int]]:
        """Path of each array that has metadata -> its shards; notes those with statistics and those removed."""
        keys = list_keys(self._kvstore, self.url)
        found, self._stats_shards = schema.inventory(keys)
        self.consumed = schema.consumed_shards(keys)
        return found

    def _ranges(self, shards: Iterable[int]) -> list[tuple[int, int]]:
        """Ascending shards as ranges of rows."""
        rows, end = self.shard_rows, self.rows_planned
        return joined((shard * rows, min((shard + 1) * rows, end)) for shard in shards)

    def _check_arrays(self, found: dict[str, set[int]]) -> None:
        if not self.sites:
            raise InputError(
                f"--store={self.url}: is empty or not a store: no sites/<site>/activations in it. "
                "Write one there with `jaxsae harvest`, or name another directory."
            )
        for column in COLUMNS:
            if column not in found:
                raise InputError(f"--store={self.url}: the array {column!r} is missing. {AGAIN}")

    def _open(self, path: str) -> ts.TensorStore:
        try:
            return open_array(self.url, path)
        except ValueError as error:
            if "PERMISSION_DENIED" in str(error):
                raise InputError(f"--store={self.url}: {path} cannot be read (permission denied).") from None
            raise InputError(
                f"--store={self.url}: {path}/zarr.json is damaged or cut short ({first_words(error)}). "
                f"Copy it from a backup, or delete that file and run the same `jaxsae harvest` again."
            ) from error

    def _check_rows(self) -> None:
        rows = {path: array.shape[0] for path, array in self._arrays.items()}
        if len(set(rows.values())) > 1:
            listed = ", ".join(f"{path} {n}" for path, n in rows.items())
            raise InputError(f"--store={self.url}: its arrays differ in rows ({listed}). Harvest all sites together.")
        self.rows_planned = next(iter(rows.values()))


def open_store(url: str | os.PathLike) -> Store:
    """Opens a store for reading, and says so where its harvest was cut short.

    Args:
      url: a path, or a `file://`, `gs://` or `s3://` URL.

    Raises:
      InputError: nothing there, no arrays, damaged metadata, sites that are not row-aligned.
    """
    store = Store(url)
    if store.consumed:
        say(f"{url}: {len(store.consumed)} of its shards were trained on and removed; {store.rows:,} rows are left.")
    if not store.complete:
        say(f"{url}: its harvest was cut short: {store.rows:,} of {store.rows_planned:,} rows are complete. {AGAIN}")
    return store


def _check_there(url: str | os.PathLike) -> None:
    path = location.local_path(url)
    if path is not None and not path.exists():
        check_encoding("--store=", url)  # else a store that is there, sought under another name, is called absent
        raise InputError(
            f"--store={url}: no such store. Write one with `jaxsae harvest --store={url}`, or where it was moved give its "
            "new place with --store."
        )
    if path is not None and not path.is_dir():
        raise InputError(f"--store={url}: is a file; a store is a directory.")
