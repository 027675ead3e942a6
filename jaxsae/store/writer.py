"""Writes a store shard by shard, so that a harvest can stop anywhere and be continued."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ml_dtypes
import numpy as np
import tensorstore as ts

from jaxsae.errors import InputError, reraise_if_disk_full
from jaxsae.progress import say
from jaxsae.store import location, schema
from jaxsae.store.schema import COLUMNS, Plan
from jaxsae.store.settings import differences
from jaxsae.store.statistics import Moments, Statistics


class StoreWriter:
    """Creates the store of a plan, or continues it.

    Any number of processes may write to one store as long as each shard has one writer. One that has no complete
    shard can be begun anew with other settings; whoever still writes by the old ones is then stopped.
    """

    def __init__(self, url: str | os.PathLike, plan: Plan):
        """Creates what does not exist yet.

        Raises:
          InputError: the place holds something else, or a store begun with other settings.
        """
        self.url, self.plan = os.fspath(url), plan
        location.check_usable(url)
        self._kvstore = location.open_kvstore(url)
        with self._writing():
            if differing := self._differing():
                self._begin_anew(differing)
            self._create()

    def completed_shards(self) -> set[int]:
        """The shards that every array has, with their statistics, or had before they were trained on and removed."""
        keys = list_keys(self._kvstore, self.url)
        arrays, stats = schema.inventory(keys)
        there = stats.intersection(*(arrays.get(path, set()) for path in self.plan.arrays()))
        return there | schema.consumed_shards(keys)

    @property
    def shard_bytes(self) -> int:
        """Bytes of the activations of a whole shard, all sites together."""
        size = schema.numpy_dtype(self.plan.dtype).itemsize
        return self.plan.shard_rows * sum(self.plan.sites.values()) * size

    def bytes_there(self) -> int:
        """Bytes of activations in the store now, by whole shards."""
        arrays, _ = schema.inventory(list_keys(self._kvstore, self.url))
        return self.shard_bytes * max(len(arrays.get(schema.site_path(site), ())) for site in self.plan.sites)

    def is_finished(self) -> bool:
        """Whether the metadata say that the store is complete."""
        return all(self._metadata(path)["attributes"].get("complete") for path in self.plan.arrays())

    def write_shard(self, shard: int, activations: Mapping[str, np.ndarray], columns: Mapping[str, np.ndarray]) -> int:
        """Writes one whole shard of every array.

        Args:
          shard: its number.
          activations: site -> [n, d_model], where n is the shard's row count; cast to the store's dtype.
          columns: tokens, sequence and position, each [n].

        Returns:
          Bytes of activations written.

        Raises:
          InputError: arrays of another shape; NaN, Inf or what overflows the store's type, naming site and row; a full
            disk; the store was begun anew with other settings by someone else.
        """
        start, stop = self.plan.shard_range(shard)
        dtype = schema.numpy_dtype(self.plan.dtype)
        values = {}
        for site, d_model in self.plan.sites.items():
            self._check_shape(site, activations[site], (stop - start, d_model))
            values[site] = cast_finite(np.asarray(activations[site]), dtype, f"Site {site}", start)
        for name in COLUMNS:
            self._check_shape(name, columns[name], (stop - start,))
        moments = {site: Moments.of(x).to_json() for site, x in values.items()}
        with self._writing():
            self._check_still_ours()
            self._write_rows(start, {schema.site_path(site): x for site, x in values.items()})
            self._kvstore.write(schema.stats_path(shard), json.dumps(moments, allow_nan=False)).result()
            self._check_still_ours()  # the columns make the shard count
            self._write_rows(start, {name: np.asarray(columns[name], np.int32) for name in COLUMNS})
        return sum(x.nbytes for x in values.values())

    def finish(self) -> bool:
        """Writes the statistics and marks the store complete; False, and nothing done, where shards are missing."""
        if len(self.completed_shards()) < self.plan.shards:
            return False
        with self._writing():
            statistics = merged_statistics(self._kvstore, list(range(self.plan.shards)), list(self.plan.sites))
            for path in self.plan.arrays():
                metadata = self._metadata(path)
                if path not in COLUMNS:
                    metadata["attributes"] |= statistics[path.split("/")[1]].to_attributes()
                metadata["attributes"]["complete"] = True
                self._kvstore.write(f"{path}/zarr.json", json.dumps(metadata, allow_nan=False)).result()
        return True

    def _create(self) -> None:
        for group in ("", "sites/", *(f"sites/{site}/" for site in self.plan.sites)):
            self._write_if_missing(f"{group}zarr.json", schema.GROUP)
        self._arrays = {}
        for path in self.plan.arrays():
            self._write_if_missing(f"{path}/zarr.json", json.dumps(self.plan.metadata(path)))
            self._arrays[path] = open_array(self.url, path)

    def _write_if_missing(self, key: str, value: str | bytes) -> None:
        # Of several processes that create at once the first wins: a late one must not undo a `complete`.
        found = self._kvstore.read(key).result()
        if found.state == "missing":
            self._kvstore.write(key, value, if_equal=found.stamp.generation).result()

    def _write_rows(self, start: int, values: Mapping[str, np.ndarray]) -> None:
        # One transaction writes each shard once, whole; without it every chunk would rewrite the shard.
        with ts.Transaction() as transaction:
            for path, x in values.items():
                self._arrays[path].with_transaction(transaction)[start : start + len(x)] = x

    def _check_shape(self, name: str, x: np.ndarray, shape: tuple[int, ...]) -> None:
        if np.shape(x) != shape:
            raise InputError(f"{name}: shape {np.shape(x)} given where the store {self.url} needs {shape}.")

    def _metadata(self, path: str) -> dict[str, Any]:
        return json.loads(self._kvstore.read(f"{path}/zarr.json").result().value)

    def _differing(self) -> list[str]:
        """In what the metadata there are differ from the plan's; empty where they do not."""
        arrays, _ = schema.inventory(list_keys(self._kvstore, self.url))
        planned = self.plan.arrays()
        for path in arrays:
            try:
                wanted = self.plan.metadata(path if path in planned else COLUMNS[0])
                differing = differences(self._metadata(path), wanted)
            except (ValueError, KeyError, IndexError, TypeError):
                raise InputError(
                    f"{self.url}: {path}/zarr.json is damaged. Delete that file and run this again."
                ) from None
            if differing:
                return differing
        return []

    def _begin_anew(self, differing: list[str]) -> None:
        """Removes what was begun with other settings, where no shard of it is complete."""
        keys = list_keys(self._kvstore, self.url)
        arrays, stats = schema.inventory(keys)
        complete = stats.intersection(*(arrays.get(path, set()) for path in {*arrays, *COLUMNS}))
        if complete | schema.consumed_shards(keys):
            raise InputError(
                f"--store={self.url} was begun with other settings: {'; '.join(differing)}. "
                "Give the same settings to continue it, or another --store."
            )
        # The metadata last: cut short, this is done again.
        own = sorted((key for key in keys if schema.is_own(key)), key=lambda key: key.endswith("zarr.json"))
        for key in own:
            self._kvstore.write(key, None).result()
        say(f"{self.url}: begun with other settings ({'; '.join(differing)}), and no shard was complete: begun anew.")

    def _check_still_ours(self) -> None:
        try:
            theirs = differences(self._metadata(COLUMNS[0]), self.plan.metadata(COLUMNS[0]))
        except (ValueError, KeyError, IndexError, TypeError):
            theirs = ["its metadata are gone"]
        if theirs:
            raise InputError(
                f"--store={self.url}: was begun anew by another harvest while this one ran ({'; '.join(theirs)}). "
                "Give each its own --store."
            )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Says in one line what a file system refuses."""
        try:
            yield
        except (ValueError, OSError) as error:
            if isinstance(error, InputError):
                raise
            reraise_if_disk_full(error, self.url)
            if "PERMISSION_DENIED" in str(error) or "Read-only file system" in str(error):
                raise InputError(f"--store={self.url}: cannot be written ({error}). Name a writable place.") from error
            raise


def cast_finite(x_NxD: np.ndarray, dtype: np.dtype, what: str, first_row: int = 0) -> np.ndarray:
    """`x_NxD` as `dtype`; `InputError` naming `what` and the first row that holds NaN, Inf or what `dtype` cannot hold."""
    with np.errstate(over="ignore"):  # what overflows becomes Inf
        cast = x_NxD.astype(dtype, copy=False)
    bad = np.flatnonzero(~np.isfinite(cast).all(axis=1))
    if not len(bad):
        return cast
    row, where = x_NxD[bad[0]], f"{what}: row {first_row + bad[0]}"
    if np.isfinite(row).all():
        largest, end = row[np.abs(row).argmax()], float(ml_dtypes.finfo(dtype).max)
        fits = abs(largest) <= np.finfo(np.float32).max  # no type of a store reaches further
        raise InputError(
            f"{where} holds {largest:.4g}, and {dtype.name} ends at {end:.4g} ({len(bad)} such rows in this shard). "
            f"Mend or leave out those rows{', or take --dtype=float32' if fits else ''}."
        )
    raise InputError(
        f"{where} holds NaN or Inf ({len(bad)} such rows in this shard). "
        "A dictionary cannot be trained on them: mend or leave out those rows."
    )


def list_keys(kvstore: ts.KvStore, url: str) -> list[str]:
    """All keys of a store; `InputError` where they may not be read."""
    try:
        return [key.decode() for key in kvstore.list().result()]
    except ValueError as error:
        raise InputError(f"--store={url}: cannot be listed ({error})") from error


def open_array(url: str | os.PathLike, path: str) -> ts.TensorStore:
    """Opens an array of a store; holes raise when they are read."""
    spec = {
        "driver": "zarr3",
        "kvstore": location.kvstore_spec(url, path),
        "fill_missing_data_reads": False,
        "store_data_equal_to_fill_value": True,
    }
    return ts.open(spec, open=True, context=location.CONTEXT).result()


def merged_statistics(kvstore: ts.KvStore, shards: list[int], sites: list[str]) -> dict[str, Statistics]:
    """Statistics of each site over the rows of `shards`."""
    reads = [kvstore.read(schema.stats_path(shard)) for shard in shards]
    parts = [json.loads(read.result().value) for read in reads]
    return {s: Statistics.of(Moments.merged(Moments.from_json(part[s]) for part in parts)) for s in sites}
