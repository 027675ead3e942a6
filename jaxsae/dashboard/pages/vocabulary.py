"""The words of a record: each token that its contexts or lens name, once, so that pages hold short indices."""

import dataclasses

import numpy as np

from jaxsae.dashboard.pages.block import narrow
from jaxsae.dashboard.record import Record
from jaxsae.lm.othello import TOKEN_TO_SQUARE, square_name

CHUNK = 16_384  # contexts looked through at a time


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """V tokens.

    Attributes:
      tokens: int32 [V], ascending. words: V strings, how people read each.
    """

    tokens: np.ndarray
    words: list[str]

    def index(self, tokens: np.ndarray) -> np.ndarray:
        """Integers of the shape of `tokens`: which of the V each is, -1 where it is -1."""
        if not len(self.tokens):
            return np.full(tokens.shape, -1, np.int8)
        return narrow(np.where(tokens < 0, -1, np.searchsorted(self.tokens, tokens)))


def vocabulary(record: Record) -> Vocabulary:
    """The tokens of its contexts and of both ends of its lens."""
    parts = [np.unique(record.promoted), np.unique(record.suppressed)]
    for first in range(0, len(record.tokens), CHUNK):
        parts.append(np.unique(record.tokens[first : first + CHUNK]))
    tokens = np.unique(np.concatenate(parts))
    tokens = tokens[tokens >= 0].astype(np.int32)
    return Vocabulary(tokens, [_word(record, int(token)) for token in tokens])


def _word(record: Record, token: int) -> str:
    if token in record.words:
        return record.words[token]
    if record.about.get("kind") == "othello" and token < len(TOKEN_TO_SQUARE):
        return square_name(int(TOKEN_TO_SQUARE[token])).lower()
    return str(token)
