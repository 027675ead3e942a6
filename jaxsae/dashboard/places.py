"""Where rows come from: the tokens around each, and what of them a context shows."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Places:
    """R rows that a dictionary reads, among F tokens, which stand in order.

    Attributes:
      tokens, sequence, position: int32 [F].
      at: int64 [R], ascending, which token each row is of; those that no row is of were not harvested.
      first, end: int64 [F], the first token of the unbroken run that a token is in, and the one after its last.
      alike: int32 [R]; of rows of one number a reader sees no difference; None: all differ.
      mine, theirs: uint64 [F], discs on the board; [0] without.
    """

    tokens: np.ndarray
    sequence: np.ndarray
    position: np.ndarray
    at: np.ndarray
    first: np.ndarray
    end: np.ndarray
    alike: np.ndarray | None = None
    mine: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.uint64))
    theirs: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.uint64))

    @classmethod
    def of(
        cls, tokens: np.ndarray, sequence: np.ndarray, position: np.ndarray, harvested: np.ndarray, **more: np.ndarray
    ) -> "Places":
        """Of tokens [F], of which those that were `harvested`, bool [F], have a row. A run ends with its sequence, and where
        positions do not follow each other: what stood between is not known."""
        broken = np.ones(len(tokens) + 1, bool)
        broken[1:-1] = (np.diff(sequence) != 0) | (np.diff(position) != 1)
        edges = np.flatnonzero(broken)
        lengths = np.diff(edges)
        first, end = np.repeat(edges[:-1], lengths), np.repeat(edges[1:], lengths)
        return cls(tokens, sequence, position, np.flatnonzero(harvested), first, end, **more)

    @property
    def rows(self) -> int:
        """R."""
        return len(self.at)

    def groups(self, wanted: int, length: int) -> np.ndarray:
        """int64 [R], ascending: what rows stand in, of which one context is enough: their sequence, or, where there are not
        many times as many sequences as contexts `wanted`, a stretch of `length` tokens of it."""
        changes = np.diff(self.sequence[self.at]) != 0
        if 1 + np.count_nonzero(changes) < 4 * wanted:
            stretch = self.position[self.at].astype(np.int64) // max(1, length)
            changes |= np.diff(stretch) != 0
        return np.concatenate([[0], np.cumsum(changes)])[: self.rows]

    def windows(self, rows: np.ndarray, before: int, after: int) -> tuple[np.ndarray, np.ndarray]:
        """int64 [P], [P]: the first token to show around each of `rows`, and the one after the last. Near the end of a run
        there are more at the other side of it."""
        here, length = self.at[rows], before + 1 + after
        first, end = self.first[here], self.end[here]
        begin = np.clip(here - before, first, np.maximum(first, end - length))
        return begin, np.minimum(begin + length, end)


def spread(begin: np.ndarray, end: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Token numbers int64 [P, length] of windows, and which are in them."""
    number = begin[:, None] + np.arange(length)
    inside = number < end[:, None]
    return np.where(inside, number, begin[:, None]), inside
