"""What suites ask of a model and its sequences: activations read, and logits as they are or with activations replaced."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxsae.evaluate.text_model import Batch

__all__ = ["Batch", "Rows", "Subject"]

Rows = Mapping[str, np.ndarray]  # {site: float32 [positions kept, d]}


class Subject(ABC):
    """A model, and what it reads.

    Attributes:
      name: of the model. vocabulary: tokens there are. unit: what a sequence is, a word for tables.
      last_site: what the unembedding reads. about: what figures are figures of, for a suite's JSON.
      games: whether sequences are games of Othello.
    """

    name: str
    vocabulary: int
    unit: str
    last_site: str
    about: dict[str, Any]
    games = False

    @property
    @abstractmethod
    def sequences(self) -> int:
        """How many held-out sequences there are."""

    @abstractmethod
    def batches(self) -> Iterator[Batch]:
        """All held-out sequences, batch by batch, the same at every call."""

    @abstractmethod
    def read(self, batch: Batch, sites: tuple[str, ...]) -> dict[str, np.ndarray]:
        """{site: float32 [positions kept, d]}, sequence after sequence.

        Raises:
          InputError: no such site; Inf or NaN there.
        """

    @abstractmethod
    def logits(self, batch: Batch, at: np.ndarray, replace: Rows | None = None) -> np.ndarray:
        """float32 [at.sum(), vocabulary] of the positions `at`, bool [B, T], sequence after sequence.

        Args:
          replace: {site: [positions kept, d]}, what stands at the positions kept instead of the model's own activations.
        """

    @abstractmethod
    def word(self, token: int) -> str:
        """A token as people read it."""

    def lens(self, directions: np.ndarray, stream: np.ndarray, step: float) -> Iterator[tuple[int, np.ndarray]]:
        """The logit lens (nostalgebraist, 2020): what a direction in the last residual adds to the logits, to first order.

            (logits(stream + step v) - logits(stream - step v)) / (2 step)

        Args:
          directions: float32 [n, d]. stream: float32 [d], the activation about which it is taken, such as the mean, whose
            length sets the final norm's scale. step: small beside that length.

        Yields:
          (first direction, float32 [some, vocabulary]), in order.
        """
        rows, length = 4, 16  # a grid of positions, each of which holds a direction
        at, tokens = np.ones((rows, length), bool), np.zeros((rows, length), np.int32)
        grid = Batch(tokens, at, at, tokens)
        for first in range(0, len(directions), rows * length):
            some = directions[first : first + rows * length]
            whole = np.zeros((rows * length, directions.shape[1]), np.float32)
            whole[: len(some)] = some
            up, down = (
                self.logits(grid, at, {self.last_site: np.float32(stream + sign * step * whole)}) for sign in (1, -1)
            )
            yield first, ((up - down) / (2 * step))[: len(some)]
