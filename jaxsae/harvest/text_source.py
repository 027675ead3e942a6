"""Rows out of token sequences: what every source that runs a model on text shares."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby

import numpy as np

from jaxsae.harvest.sequences import Sequences
from jaxsae.harvest.source import Shard, Source
from jaxsae.store import Plan, schema

Rows = Mapping[str, np.ndarray]  # {site: [rows kept, d_model]}
Columns = Mapping[str, np.ndarray]
# Tokens [B, T] (-1 where there is none), which are kept [B, T], and whether their rows are wanted at all, -> what gives
# those rows, or {}, once the pass over them is done. The pass is under way by then where a device works by itself.
Start = Callable[[np.ndarray, np.ndarray, bool], Callable[[], Rows]]


def when_asked(read: Callable[[np.ndarray, np.ndarray], Rows]) -> Start:
    """That of a function of tokens and which are kept that gives rows at once."""
    return lambda tokens, kept, wanted: partial(read, tokens, kept)


class TextSource(Source):
    """Shards of a plan, from batches of sequences.

    Batches are the same whichever shards are asked for, so a row has the same bits whoever makes it; a batch
    that lies across two shards is run for each, unless they are made one after the other. While one is brought to the host
    the next is computed.
    """

    def __init__(self, plan: Plan, sequences: Sequences, start: Start, together: bool = False):
        self.plan, self.sequences, self.together, self._start = plan, sequences, together, start
        self._dtype = schema.numpy_dtype(plan.dtype)

    def shard(self, shard: int) -> Shard:
        """Activations {site: [n, d_model]} and columns {name: int32 [n]} of one shard.

        Raises:
          InputError: activations that overflow, naming the site.
        """
        return next(self.shards([shard], lambda _: True, lambda: True))[1]

    def shards(
        self, numbers: Sequence[int], mine: Callable[[int], bool], goes_on: Callable[[], bool]
    ) -> Iterator[tuple[int, Shard]]:
        """As `Source.shards`."""
        numbers = [number for number in numbers if self.together or mine(number)]
        walk = _Walk(self.sequences, self._start, self._order(numbers, mine))
        for number in numbers:
            if not goes_on():
                return
            if mine(number):
                yield number, self._filled(number, walk)
            else:
                for batch in self._batches(number):
                    walk.to(batch)

    def _batches(self, shard: int) -> range:
        return self.sequences.batches_of(*self.plan.shard_range(shard))

    def _order(self, shards: Sequence[int], mine: Callable[[int], bool]) -> Iterator[tuple[int, bool]]:
        """Each batch once that some shards take in their turn, and whether its rows are wanted."""
        each = ((batch, mine(shard)) for shard in shards for batch in self._batches(shard))
        for batch, those in groupby(each, key=lambda pair: pair[0]):
            yield batch, any(wanted for _, wanted in those)

    def _filled(self, shard: int, walk: "_Walk") -> Shard:
        start, stop = self.plan.shard_range(shard)
        activations = {site: np.empty((stop - start, d), self._dtype) for site, d in self.plan.sites.items()}
        columns = {name: np.empty(stop - start, np.int32) for name in schema.COLUMNS}
        for batch in self._batches(shard):
            first, end = self.sequences.batch_rows(batch)
            low, high = max(first, start), min(end, stop)
            here, there = slice(low - start, high - start), slice(low - first, high - first)
            read, told = walk.to(batch)
            for site, x in activations.items():
                x[here] = read[site][there]
            for name, column in columns.items():
                column[here] = told[name][there]
        return activations, columns


class _Walk:
    """Batches in an `order` of (number, whether it is wanted); the next is begun before one is waited for, two stand."""

    def __init__(self, sequences: Sequences, start: Start, order: Iterator[tuple[int, bool]]):
        self._sequences, self._start, self._order = sequences, start, order
        self._begun: deque[tuple[int, Callable[[], tuple[Rows, Columns]]]] = deque()
        self._at: tuple[int, tuple[Rows, Columns]] | None = None
        self._begin()

    def to(self, number: int) -> tuple[Rows, Columns]:
        """Activations and columns of a batch's rows: the batch that is at hand, or the next."""
        if self._at is None or self._at[0] != number:
            self._at = None  # a third would stand otherwise
            self._begin()
            at, finish = self._begun.popleft()
            assert at == number
            self._at = number, finish()
        return self._at[1]

    def _begin(self) -> None:
        number, wanted = next(self._order, (None, False))
        if number is not None:
            tokens, _, kept = self._sequences.batch(number)
            rows = self._start(tokens, kept, wanted)
            self._begun.append((number, lambda: (rows(), self._sequences.columns(number, tokens, kept))))
