"""Batches of text: token sequences and which of their positions are the rows of a step, a function of the step alone.

Kept positions of the sequences, in an order drawn anew for each epoch, are one stream of rows; step n takes its rows n B to
(n + 1) B, each data shard an even part of them with the sequences they lie in. What lies before or behind them in the first
and the last of these is read, and is no row.
"""

import functools
import math

import flax.struct
import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxsae.errors import InputError
from jaxsae.harvest.sequences import Sequences
from jaxsae.lm import othello
from jaxsae.parallel import DATA, shardings
from jaxsae.progress import say

_ORDER, _GAMES = 0x7E87, 0x9A3E  # apart from other uses of a seed
FEWEST = 0.5  # of the rows of the fullest sequence; shorter ones would need room for many in a batch


@flax.struct.dataclass
class Text:
    """A batch.

    Attributes:
      tokens: int32 [S, T], -1 where there is none.
      rows: int32 [B], places in the S T positions of a data shard's own sequences.
    """

    tokens: jax.Array
    rows: jax.Array

    @classmethod
    def specs(cls) -> "Text":
        return cls(P(DATA, None), P(DATA))

    @classmethod
    def abstract(cls, shape: tuple[int, int], rows: int, mesh: Mesh) -> "Text":
        """Shapes, types and shardings of one with tokens of `shape`."""
        place = shardings(mesh, cls.specs())
        of = lambda shape, where: jax.ShapeDtypeStruct(shape, np.int32, sharding=where)
        return cls(of(shape, place.tokens), of((rows,), place.rows))

    def put(self, mesh: Mesh) -> "Text":
        """NumPy arrays, the same in every process, on a mesh."""
        place = shardings(mesh, Text.specs())
        whole = lambda x, where: jax.make_array_from_callback(x.shape, where, lambda index: x[index])
        return jax.tree.map(whole, self, place)


class TextBatches:
    """Of a text; `shape` is that of a batch's tokens, `shards` how many parts it is in."""

    def __init__(self, sequences: Sequences, batch_size: int, seed: int, shards: int, end: int | None = None):
        """Takes the sequences whose rows all come before row `end`.

        Args:
          sequences: in batches of one. end: None: all.

        Raises:
          InputError: they have fewer rows than a batch.
        """
        counts = np.diff(sequences.first_rows)
        there = (sequences.first_rows[1:] <= (sequences.rows if end is None else end)) & (counts > 0)
        enough = there & (counts >= FEWEST * counts[there].max(initial=0))
        if short := int(there.sum() - enough.sum()):
            left = counts[there].sum() - counts[enough].sum()
            say(f"end to end: {short:,} short sequences are left out, {left / counts[there].sum():.1%} of the rows.")
        self._sequences, self._counts, self._taken = sequences, counts, np.flatnonzero(enough)
        self._batch, self._seed, self._shards = batch_size, seed, shards
        self._steps = int(counts[enough].sum()) // batch_size
        if not self._steps:
            raise InputError(
                f"--batch_size={batch_size}: the text has {int(counts[enough].sum()):,} rows that are not held out. "
                "Take a smaller batch or more text."
            )
        room = math.ceil(batch_size // shards / counts[enough].min()) + 1
        self.shape = shards * room, sequences.longest
        self._order = functools.lru_cache(2)(self._shuffled)

    def _shuffled(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The sequences of an epoch in order, and the place of each one's first row in the stream."""
        order = np.random.default_rng([self._seed, _ORDER, epoch]).permutation(self._taken)
        return order, np.concatenate([[0], np.cumsum(self._counts[order])])

    def batch(self, step: int) -> Text:
        """That of a step, counted from 0, as NumPy arrays."""
        epoch, within = divmod(step, self._steps)
        order, firsts = self._order(epoch)
        each, (count, length) = self._batch // self._shards, self.shape
        room = count // self._shards
        tokens, rows = np.full(self.shape, -1, np.int32), np.empty((self._shards, each), np.int32)
        for shard in range(self._shards):
            low = within * self._batch + shard * each
            first, last = np.searchsorted(firsts, [low, low + each - 1], side="right") - 1
            places = []
            for number, place in enumerate(range(first, last + 1)):
                ids, _, kept = self._sequences.batch(int(order[place]))
                tokens[shard * room + number, : ids.shape[1]] = ids[0]
                places.append(number * length + np.flatnonzero(kept[0]))
            skip = low - firsts[first]
            rows[shard] = np.concatenate(places)[skip : skip + each]
        return Text(tokens, rows.reshape(-1))


class GameBatches:
    """Of random Othello games, whose rows are the positions from the first to the last that were harvested."""

    def __init__(self, batch_size: int, seed: int, shards: int, first: int, last: int):
        self._seed, self._each, self._shards = seed, batch_size // shards, shards
        self._games = -(-self._each // (last - first + 1))
        places = np.arange(self._games)[:, None] * othello.CONTEXT + np.arange(first, last + 1)
        self._rows = np.tile(places.reshape(-1)[: self._each], shards).astype(np.int32)
        self.shape = shards * self._games, othello.CONTEXT

    def batch(self, step: int) -> Text:
        """That of a step, counted from 0, as NumPy arrays."""
        rng = np.random.default_rng([self._seed, _GAMES, step])
        games = othello.full_games(self.shape[0], rng)
        return Text(games.moves[:, : othello.CONTEXT].astype(np.int32), self._rows)
