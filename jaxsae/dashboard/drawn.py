"""Windows of tokens drawn at random, with every latent that fires in each: the rest are known not to fire there.

A label is scored on contexts with the latent and without it (Bills et al. 2023; Paulo et al. 2410.13928). The strongest
contexts say nothing of where a latent is silent; these do, for all latents at once.
"""

import numpy as np


def choose(sequence: np.ndarray, position: np.ndarray, length: int, count: int, seed: int) -> np.ndarray:
    """Draws windows that do not overlap, of successive positions of one sequence.

    Args:
      sequence, position: [R], of the rows that are searched, in their order. length: rows of a window. count: how many, at
        most.

    Returns:
      int64 [S], index of the first row of each, ascending.
    """
    starts = np.arange(0, len(sequence) - length + 1, length)
    last = starts + length - 1
    whole = (sequence[last] == sequence[starts]) & (position[last] - position[starts] == length - 1)
    # Between them the positions may still jump there and back, where rows are in no order.
    steps = (np.diff(sequence) == 0) & (np.diff(position) == 1)
    broken = np.concatenate([[0], np.cumsum(~steps)])
    starts = starts[whole & (broken[last] == broken[starts])]
    drawn = np.random.default_rng(seed).permutation(len(starts))[:count]
    return starts[np.sort(drawn)].astype(np.int64)


class Drawn:
    """Gathers which latents fire in windows, from batches of rows in whatever pieces they come."""

    def __init__(self, first_rows: np.ndarray, length: int, width: int):
        """`first_rows` [S]: as `choose` gives them. `width`: number of latents."""
        self._rows, self._length, self._width = np.asarray(first_rows, np.int64), length, width
        self._pairs = [np.zeros(0, np.int64)]  # window * width + latent

    def add(self, first: int, values: np.ndarray, indices: np.ndarray) -> None:
        """Takes the latents [B, k] of rows from `first` on; a value of 0 is none."""
        if not len(self._rows):
            return
        row = np.arange(first, first + len(values))
        window = np.searchsorted(self._rows, row, "right") - 1
        inside = (window >= 0) & (row < self._rows[window] + self._length)
        pairs = window[inside, None] * self._width + indices[inside]
        self._pairs.append(np.unique(pairs[values[inside] != 0]))

    def fires(self) -> tuple[np.ndarray, np.ndarray]:
        """`drawn_start` int64 [S + 1] and `drawn_fires` int32 [F] of a `Record`."""
        pairs = np.unique(np.concatenate(self._pairs))
        start = np.searchsorted(pairs, np.arange(len(self._rows) + 1) * self._width)
        return start.astype(np.int64), (pairs % self._width).astype(np.int32)
