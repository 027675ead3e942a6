"""Shuffled batches of activations as a pure function of (store, seed, step).

There is no iterator to save: a run that resumes at step n, on any number of processes, asks for step n.
`order.py` says which rows a batch holds; this file reads them, a block at a time.
"""

import math
import sys
from collections.abc import Iterator, Sequence

import grain
import jax
import numpy as np

from jaxsae.errors import InputError
from jaxsae.store.blocks import Blocks, Key
from jaxsae.store.follow import Shards
from jaxsae.store.order import Order
from jaxsae.store.ranges import joined, select
from jaxsae.store.reader import Store

BLOCK_BYTES = 128 * 2**20


class Batches:
    """`batches[step]` is a float32 [batch_size, numbers] array, for any step from 0; epochs follow without end.

    A row is those of the sites side by side, read in one pass: which rows a batch holds does not depend on how many sites
    of a width there are. A Grain `RandomAccessDataSource` of whole batches. Threads may share it; up to three blocks of
    `block_bytes` for each site stand in memory.
    """

    def __init__(
        self,
        store: Store,
        sites: str | Sequence[str],
        batch_size: int,
        seed: int = 0,
        rows: tuple[int, int] | None = None,
        block_bytes: int = BLOCK_BYTES,
        lanes: int = 8,
        dtype: np.dtype | type = np.float32,
        shards: Shards | None = None,
    ):
        """Plans the batches; reads nothing yet.

        Args:
          store: where the rows are; in one that was cut short, its complete rows are used.
          sites: whose activations, of one site or of several.
          batch_size: rows of a batch, over all processes.
          seed: decides the order, with the step.
          rows: first:last of the store's complete rows, to hold others out; None for all.
          block_bytes: rows are mixed within blocks of this size, as stored at the widest site, and at least a batch.
          lanes: parts of a batch that can be read without the others; their greatest common divisor
            with the batch size is used. It changes the order, so it does not follow the process count.
          dtype: of the batches.
          shards: for a store that is still being written: its planned rows are used, and waited for.

        Raises:
          InputError: no such site, fewer rows than a batch, a negative seed.
        """
        self.sites = (sites,) if isinstance(sites, str) else tuple(sites)
        there = store.rows_planned if shards else store.rows
        first, last = rows or (0, there)
        if not 0 <= first <= last <= there:
            raise InputError(f"{store.url}: rows {first}:{last} are not in its {there} complete rows.")
        if batch_size < 1 or last - first < batch_size:
            raise InputError(
                f"--batch_size={batch_size}: {store.url} has {last - first} rows to read at site {', '.join(self.sites)}. "
                "Give a batch size from 1 to that number, or harvest more tokens."
            )
        if seed < 0:
            raise InputError(f"--seed={seed}: must be 0 or more")
        self.store, self.batch_size, self.seed, self.dtype = store, batch_size, seed, np.dtype(dtype)
        self.numbers = sum(map(store.d_model, self.sites))
        block_rows = block_bytes // max(store.d_model(site) * store.dtype(site).itemsize for site in self.sites)
        self.lanes = math.gcd(batch_size, lanes)
        chosen = [(first, last)] if shards else select(store.available, first, last)
        window = shards.window_rows if shards else 0
        if shards:
            block_rows = min(block_rows, window // 4)
        self.order = Order(chosen, store.chunk_rows, batch_size, block_rows, self.lanes, seed, window)
        self._blocks = Blocks(store, self.sites, self.order, shards)

    @property
    def rows(self) -> int:
        """Rows that take turns in the batches."""
        return self.order.rows

    @property
    def steps_per_epoch(self) -> int:
        """Batches in which each row comes at most once: rows // batch_size."""
        return self.order.steps_per_epoch

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, step: int) -> np.ndarray:
        """The batch of a step, [batch_size, numbers]."""
        return self.read(step)

    def read(self, step: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows start:stop of the batch of a step, reading only the lanes that they stand in.

        Raises:
          InputError: a negative step, a damaged or missing file.
        """
        stop = self.batch_size if stop is None else stop
        key, place = self._located(step, start, stop)
        first = start - key[1] * self.order.width
        return self._blocks[key][place, first : first + stop - start].astype(self.dtype, copy=False)

    def rows_of(self, step: int) -> np.ndarray:
        """int64 [batch_size]: which rows of the store the batch of a step holds."""
        key, place = self._located(step, 0, self.batch_size)
        stretch, width = self.order.stretch(*key), self.order.width
        indices = stretch.order[:, place * width : (place + 1) * width].reshape(-1)
        return np.concatenate([np.arange(*r) for r in stretch.ranges])[indices]

    def _located(self, step: int, start: int, stop: int) -> tuple[Key, int]:
        """The lanes of a block that hold rows start:stop of a batch, and the batch's place in the block."""
        if step < 0 or not 0 <= start < stop <= self.batch_size:
            raise InputError(
                f"Rows {start}:{stop} of batch {step}: batches count from 0 and have {self.batch_size} rows."
            )
        block, place = self.order.locate(step)
        return (block, start // self.order.width, -(-stop // self.order.width)), place


def local_batch(batches: Batches, step: int, sharding: jax.sharding.Sharding) -> jax.Array:
    """The batch of a step as a global array [batch_size, numbers], of which this process reads its part.

    The part is asked of the sharding, never of the process index: with `model` over several hosts,
    several processes hold the same rows.
    """
    shape = (batches.batch_size, batches.numbers)
    parts = {first: batches.read(step, first, last) for first, last in local_rows(sharding, shape)}

    def part(index: tuple[slice, ...]) -> np.ndarray:
        start, stop, _ = index[0].indices(shape[0])
        first = max(first for first in parts if first <= start)
        return parts[first][start - first : stop - first, index[1]]

    return jax.make_array_from_callback(shape, sharding, part)


def local_rows(sharding: jax.sharding.Sharding, shape: tuple[int, int]) -> list[tuple[int, int]]:
    """The rows, as ascending ranges, that the devices of this process hold of an array; neighbours joined."""
    held = {index[0].indices(shape[0])[:2] for index in sharding.addressable_devices_indices_map(shape).values()}
    return joined(sorted(held))


class _From:
    """Batches from a first step on, as a Grain source."""

    def __init__(self, batches: Batches, start_step: int, sharding: jax.sharding.Sharding | None):
        self._batches, self._start, self._sharding = batches, start_step, sharding

    def __len__(self) -> int:
        return len(self._batches) - self._start

    def __getitem__(self, index: int) -> tuple[int, np.ndarray | jax.Array]:
        step = self._start + index
        if self._sharding is None:
            return step, self._batches[step]
        return step, local_batch(self._batches, step, self._sharding)


def grain_dataset(
    batches: Batches, start_step: int = 0, sharding: jax.sharding.Sharding | None = None
) -> grain.MapDataset:
    """A Grain dataset of (step, batch) from `start_step` on; with a sharding the batches are `jax.Array`s."""
    return grain.MapDataset.source(_From(batches, start_step, sharding))


def iterate(
    batches: Batches,
    start_step: int = 0,
    sharding: jax.sharding.Sharding | None = None,
    threads: int = 2,
    prefetch: int = 4,
) -> Iterator[tuple[int, np.ndarray | jax.Array]]:
    """Yields (step, batch) from `start_step` on without end, `prefetch` batches ahead in `threads` threads."""
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch)
    yield from grain_dataset(batches, start_step, sharding).to_iter_dataset(options)
