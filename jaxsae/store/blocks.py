"""Blocks of rows in memory, in the order of the batches, read ahead.

A row is copied as few times as can be: a chunk is decoded while it is in the cache, and its rows go from there to
their places in the batches of the block, which are then slices of it. A block's memory is used again once no batch
of it is held any more: fresh pages, which the kernel clears, take longer than reading rows into them.
"""

import mmap
import os
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from jaxsae.store.follow import Shards
from jaxsae.store.order import Order
from jaxsae.store.reader import Store
from jaxsae.store.schema import site_path

_HELD = 3  # one that late threads still read, one in use, one read ahead
_READERS = 4  # threads that put the rows of a block in their places

Key = tuple[int, int, int]  # block, first lane, lane after the last


class Blocks:
    """The blocks of an order, read where they are asked for and one ahead; threads may share it."""

    def __init__(self, store: Store, sites: Sequence[str], order: Order, shards: Shards | None = None):
        """Reads nothing yet; `shards` are those of a store that is still being written, and are waited for."""
        self._store, self._order, self._shards = store, order, shards
        ends = np.cumsum([0, *map(store.d_model, sites)])
        self._columns = {site_path(s): slice(*ends[i : i + 2]) for i, s in enumerate(sites)}
        self._row = int(ends[-1]), store.dtype(sites[0])
        self._futures: OrderedDict[Key, Future] = OrderedDict()
        self._lock = threading.Lock()
        self._memory = _Memory()
        self._blocks = ThreadPoolExecutor(2, thread_name_prefix="jaxsae-blocks")
        readers = min(_READERS, os.cpu_count() or 1)
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="jaxsae-rows")
        self._parts = readers

    def __getitem__(self, key: Key) -> np.ndarray:
        """[steps, rows of a batch in these lanes, numbers of a row], the sites side by side, in the store's dtype; not to
        be written to.

        Starts to read the next block as well.
        """
        with self._lock:
            future = self._requested(key)
            self._requested((key[0] + 1, *key[1:]))
            self._futures.move_to_end(key)
            while len(self._futures) > _HELD * len({held[1:] for held in self._futures}):
                self._futures.popitem(last=False)
        return future.result()

    def _requested(self, key: Key) -> Future:
        # A future, not an array: threads that ask for the same block wait for one read.
        if key not in self._futures:
            self._futures[key] = self._blocks.submit(self._load, key)
        return self._futures[key]

    def _load(self, key: Key) -> np.ndarray:
        stretch = self._order.stretch(*key)
        if self._shards:
            self._shards.wait_quietly(stretch.ranges)
        numbers, dtype = self._row
        steps, width = self._order.steps_of(key[0]), self._order.width * (key[2] - key[1])
        most = self._order.most_steps * width * numbers * dtype.itemsize
        block = self._memory.array((steps, width, numbers), dtype, most)
        places, ends = stretch.places(self._order.width), np.cumsum([stop - start for start, stop in stretch.ranges])
        cuts = [len(ends) * part // self._parts for part in range(self._parts + 1)]

        def fill(part: int) -> None:
            low, high = cuts[part : part + 2]
            first, last = (int(ends[cut - 1]) if cut else 0 for cut in (low, high))
            for path, columns in self._columns.items():
                self._fill(block.reshape(-1, numbers)[:, columns], path, stretch.ranges[low:high], places[first:last])

        list(self._readers.map(fill, range(self._parts)))
        block.flags.writeable = False
        return block

    def _fill(self, rows: np.ndarray, path: str, ranges: list[tuple[int, int]], places: np.ndarray) -> None:
        # As opaque rows: NumPy would go through bfloat16 number by number.
        whole = np.dtype((np.void, rows.shape[1] * rows.itemsize))
        into, at = rows.view(whole)[:, 0], 0
        for read in self._store.stream(path, ranges):
            into[places[at : at + len(read)]] = read.view(whole)[:, 0]
            at += len(read)


class _Memory:
    """Memory of arrays, taken again for another once an array and all views of it are gone."""

    def __init__(self):
        # No lock: what gives memory back may run in the middle of anything.
        self._free: dict[int, deque[mmap.mmap]] = {}

    def array(self, shape: tuple[int, ...], dtype: np.dtype, room: int) -> np.ndarray:
        """An array that is not cleared, in memory of `room` bytes, on a page of its own."""
        free = self._free.setdefault(room, deque())
        try:
            space = free.pop()
        except IndexError:
            space = mmap.mmap(-1, room)
        array = np.ndarray(shape, dtype, buffer=space)
        weakref.finalize(array, free.append, space).atexit = False
        return array
