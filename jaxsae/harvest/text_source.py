"""Rows out of token sequences: what every source that runs a model on text shares."""

from collections.abc import Callable, Mapping

import numpy as np

from jaxsae.harvest.sequences import Sequences
from jaxsae.store import Plan, schema

# Tokens [B, T] (-1 where there is none), which are kept [B, T] -> {site: [rows kept, d_model]}
Rows = Mapping[str, np.ndarray]
Read = Callable[[np.ndarray, np.ndarray], Rows]


class TextSource:
    """Shards of a plan, from batches of sequences.

    Batches are the same whichever shards are asked for, so a row has the same bits whoever makes it; a batch
    that lies across two shards is run for each, unless they are made one after the other.
    """

    def __init__(self, plan: Plan, sequences: Sequences, read: Read):
        self.plan, self.sequences, self._read = plan, sequences, read
        self._dtype = schema.numpy_dtype(plan.dtype)
        self._last: tuple[int, tuple[Rows, Rows]] | None = None

    def shard(self, shard: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Activations {site: [n, d_model]} and columns {name: int32 [n]} of one shard.

        Raises:
          InputError: activations that overflow, naming the site.
        """
        start, stop = self.plan.shard_range(shard)
        activations = {site: np.empty((stop - start, d), self._dtype) for site, d in self.plan.sites.items()}
        columns = {name: np.empty(stop - start, np.int32) for name in schema.COLUMNS}
        for batch in self.sequences.batches_of(start, stop):
            first, end = self.sequences.batch_rows(batch)
            low, high = max(first, start), min(end, stop)
            here, there = slice(low - start, high - start), slice(low - first, high - first)
            read, told = self._batch(batch)
            for site, x in activations.items():
                x[here] = read[site][there]
            for name, column in columns.items():
                column[here] = told[name][there]
        return activations, columns

    def _batch(self, number: int) -> tuple[Rows, Rows]:
        """Activations and columns of a batch's rows."""
        if self._last is None or self._last[0] != number:
            tokens, _, kept = self.sequences.batch(number)
            self._last = number, (self._read(tokens, kept), self.sequences.columns(number, tokens, kept))
        return self._last[1]
