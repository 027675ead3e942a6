"""Which rows stand in which batch: a pure function of the rows there are, the seed and the step.

Reading single rows in random order is hundreds of times slower than reading chunks, so shuffling has
two levels. Each epoch puts the chunks in a random order; end to end they are the epoch's stream of rows.
The stream is cut into blocks of whole batches that fit in memory, a block into `lanes` equal stretches,
and the rows of each stretch are permuted. Lane v fills rows v * B / lanes onward of every batch of the
block, so a process that holds a part of the batch reads a part of the block. An epoch has rows // B
batches: each row comes once, but for the last rows % B of the stream, other ones each epoch.
"""

import dataclasses
import functools
import math

import numpy as np

from jaxsae.store.ranges import cut_at_chunks

_CHUNKS, _ROWS = 0, 1  # keep the two uses of a seed apart


@dataclasses.dataclass(frozen=True)
class Stretch:
    """Lanes first:last of one block.

    Attributes:
      ranges: rows of the store, in stream order, as (start, stop).
      order: int64 [lanes, n], for each lane its rows in batch order, as indices into `ranges` end to end.
    """

    ranges: list[tuple[int, int]]
    order: np.ndarray

    def places(self, width: int) -> np.ndarray:
        """int64 [lanes * n]: where each row of `ranges` end to end stands in the batches, which follow each other.

        Each of them takes `width` rows of every lane.
        """
        lanes, length = self.order.shape
        places = np.empty(lanes * length, np.int64)
        places[self.order] = np.arange(lanes * length).reshape(-1, lanes, width).swapaxes(0, 1).reshape(lanes, length)
        return places


class Order:
    """The order of the rows of `ranges`, epoch after epoch without end."""

    def __init__(
        self,
        ranges: list[tuple[int, int]],
        chunk_rows: int,
        batch_size: int,
        block_rows: int,
        lanes: int,
        seed: int,
        window_rows: int = 0,
    ):
        """Plans batches of `batch_size` from blocks of about `block_rows` rows; `lanes` must divide the batch.

        With `window_rows` chunks are put in a random order within windows of so many rows, and windows follow each
        other as they are stored: what a store that is still being written can give.
        """
        self.batch_size, self.lanes, self.seed, self._window = batch_size, lanes, seed, window_rows
        self._starts, self._stops = cut_at_chunks(ranges, chunk_rows)
        self.width = batch_size // lanes  # rows of a lane in a batch
        self.rows = int((self._stops - self._starts).sum())
        self.steps_per_epoch = self.rows // batch_size
        block_steps = max(1, block_rows // batch_size)
        self.blocks_per_epoch = max(1, math.ceil(self.steps_per_epoch / block_steps))
        # Blocks of equal length: a short last block would be a few chunks, and its batches all alike.
        blocks = np.arange(self.blocks_per_epoch + 1)
        self._first_step = blocks * self.steps_per_epoch // self.blocks_per_epoch
        # Per instance, so that orders are dropped with it.
        self._chunks = functools.lru_cache(2)(self._shuffled_chunks)
        self.stretch = functools.lru_cache(6)(self._stretch)

    def locate(self, step: int) -> tuple[int, int]:
        """The block that holds a step, counted over all epochs, and the step's place in it."""
        epoch, within = divmod(step, self.steps_per_epoch)
        block = int(np.searchsorted(self._first_step, within, side="right")) - 1
        return epoch * self.blocks_per_epoch + block, within - int(self._first_step[block])

    def steps_of(self, block: int) -> int:
        """Batches in a block."""
        within = block % self.blocks_per_epoch
        return int(self._first_step[within + 1] - self._first_step[within])

    @property
    def most_steps(self) -> int:
        """Batches in the longest block."""
        return int(np.diff(self._first_step).max())

    def _shuffled_chunks(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Starts and stops of the chunks in the epoch's order, and where each begins in the stream."""
        rng = np.random.default_rng([self.seed, _CHUNKS, epoch])
        if self._window:
            windows = self._starts // self._window
            shuffled = np.concatenate([rng.permutation(np.flatnonzero(windows == w)) for w in np.unique(windows)])
        else:
            shuffled = rng.permutation(len(self._starts))
        starts, stops = self._starts[shuffled], self._stops[shuffled]
        return starts, stops, np.concatenate([[0], np.cumsum(stops - starts)])

    def lowest_row_from(self, step: int) -> int:
        """The lowest row that any batch from `step` on, up to the epoch's end, can hold."""
        epoch, within = divmod(self.locate(step)[0], self.blocks_per_epoch)
        starts, _, at = self._chunks(epoch)
        first = int(self._first_step[within]) * self.batch_size
        return int(starts[np.searchsorted(at, first, side="right") - 1 :].min())

    def _stretch(self, block: int, first_lane: int, last_lane: int) -> Stretch:
        epoch, within = divmod(block, self.blocks_per_epoch)
        first, last = (int(s) * self.batch_size for s in self._first_step[within : within + 2])
        length = (last - first) // self.lanes
        lanes = range(first_lane, last_lane)
        permuted = [np.random.default_rng([self.seed, _ROWS, block, lane]).permutation(length) for lane in lanes]
        order = np.stack(permuted) + length * np.arange(len(lanes))[:, None]
        return Stretch(self._rows_at(epoch, first + first_lane * length, first + last_lane * length), order)

    def _rows_at(self, epoch: int, first: int, last: int) -> list[tuple[int, int]]:
        """Ranges of rows that stand at first:last of an epoch's stream."""
        starts, stops, at = self._chunks(epoch)
        low, high = np.searchsorted(at, first, side="right") - 1, np.searchsorted(at, last, side="left")
        ranges = [[int(starts[i]), int(stops[i])] for i in range(low, high)]
        ranges[0][0] += first - int(at[low])
        ranges[-1][1] -= int(at[high]) - last
        return [(start, stop) for start, stop in ranges]
