"""Reads rows of a store's arrays, and says which file is wrong where one is."""

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorstore as ts

from jaxsae.errors import InputError
from jaxsae.store.location import local_path
from jaxsae.store.schema import COLUMNS

AGAIN = "Run the same `jaxsae harvest` again to write what is missing."
_AHEAD_ON_DISK, _AHEAD = 8 * 2**20, 64 * 2**20  # bytes that one reader has asked for
_DAMAGE = ("DATA_LOSS", "OUT_OF_RANGE", "FAILED_PRECONDITION", "INVALID_ARGUMENT")  # as TensorStore says it


class Rows:
    """The rows of row-aligned arrays that are cut into the same shards; threads may share it."""

    def __init__(self, url: str, arrays: Mapping[str, ts.TensorStore], rows: int, shard_rows: int):
        """`url` is the store's, for messages; `arrays` go by their paths in it."""
        self._url, self._arrays, self._rows, self._shard_rows = url, arrays, rows, shard_rows
        self._on_disk = local_path(url) is not None

    def read(self, path: str, ranges: Sequence[tuple[int, int]]) -> np.ndarray:
        """Rows of several ranges of one array, in one piece, read side by side.

        Raises:
          InputError: rows outside the store or not written, a damaged file.
        """
        array = self._arrays[path]
        self._check(ranges)
        out = np.empty((sum(stop - start for start, stop in ranges), *array.shape[1:]), array.dtype.numpy_dtype)
        # Chunks are decoded into their places: read by themselves first, they would be copied once more.
        places, at, reads = ts.array(out), 0, []
        for start, stop in ranges:
            reads.append(places[at : at + stop - start].write(array[start:stop]))
            at += stop - start
        for (start, stop), read in zip(ranges, reads, strict=True):
            self._finish(read, path, start, stop)
        return out

    def stream(self, path: str, ranges: Sequence[tuple[int, int]]) -> Iterator[np.ndarray]:
        """The rows of each range, one range after the other; an array is there until the next is asked for.

        Some are read ahead: from a disk only as many as stay in the processor's cache. Raises as `read` does.
        """
        self._check(ranges)
        array = self._arrays[path]
        shape = (max((stop - start for start, stop in ranges), default=0), *array.shape[1:])
        empty = lambda: np.empty(shape, array.dtype.numpy_dtype)
        ahead = (_AHEAD_ON_DISK if self._on_disk else _AHEAD) // max(1, empty().nbytes)
        free = [empty() for _ in range(min(max(2, ahead), len(ranges)))]
        reads: deque[tuple[ts.WriteFutures, np.ndarray, tuple[int, int]]] = deque()
        coming = iter(ranges)
        while True:
            while free and (wanted := next(coming, None)) is not None:
                into = free.pop()
                place = ts.array(into)[: wanted[1] - wanted[0]]
                reads.append((place.write(array[slice(*wanted)]), into, wanted))
            if not reads:
                return
            read, into, (start, stop) = reads.popleft()
            self._finish(read, path, start, stop)
            yield into[: stop - start]
            free.append(into)

    def _check(self, ranges: Sequence[tuple[int, int]]) -> None:
        for start, stop in ranges:
            if not 0 <= start <= stop <= self._rows:
                raise InputError(f"{self._url}: rows {start}:{stop} are not in 0:{self._rows}.")

    def _finish(self, read: ts.WriteFutures, path: str, start: int, stop: int) -> None:
        try:
            read.result()
        except ValueError as error:
            raise self._explained(path, start, stop, error) from error

    def _explained(self, path: str, start: int, stop: int, error: ValueError) -> Exception:
        """The error that says which file of rows start:stop is missing or damaged; `error` where it is neither."""
        for shard in range(start // self._shard_rows, -(-stop // self._shard_rows)):
            first, last = max(start, shard * self._shard_rows), min(stop, (shard + 1) * self._shard_rows)
            try:
                self._arrays[path][first:last].read().result()
            except ValueError as found:
                file, text = f"{path}/c/{shard}" + ("" if path in COLUMNS else "/0"), str(found)
                if "NOT_FOUND" in text:
                    return InputError(f"{self._url}: rows {first}:{last} of {path} are not written ({file}). {AGAIN}")
                if any(word in text for word in _DAMAGE):
                    return InputError(
                        f"{self._url}: {file} is damaged, so rows {first}:{last} of {path} cannot be read "
                        f"({first_words(found)}). Delete that file and run the same `jaxsae harvest` again."
                    )
        return error


def first_words(error: Exception) -> str:
    """The part of a TensorStore error that people need."""
    text = str(error).split("[tensorstore_spec", 1)[0].split("[source locations", 1)[0].strip()
    return json.dumps(text[-160:])[1:-1]
