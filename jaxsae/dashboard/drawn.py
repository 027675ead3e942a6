"""Windows of tokens drawn at random, with every latent that fires in each: the rest are known not to fire there.

A label is scored on contexts with the latent and without it (Bills et al. 2023; Paulo et al. 2410.13928). The strongest
contexts say nothing of where a latent is silent; these do, for all latents at once.
"""

import numpy as np
import scipy.sparse as sp

from jaxsae.dashboard.places import Places
from jaxsae.dashboard.strengths import stretches


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


def fires(latents: sp.csc_matrix, first_rows: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """`drawn_start` int64 [S + 1] and `drawn_fires` int32 [F] of a `Record`.

    Args:
      latents: [R, n]. first_rows: int64 [S], as `choose` gives them.
    """
    rows, width = latents.shape
    window = np.full(rows, -1, np.int64)
    window[first_rows[:, None] + np.arange(length)] = np.arange(len(first_rows))[:, None]
    pairs = [np.zeros(0, np.int64)]  # window * width + latent
    for some in stretches(latents.indptr):
        ends = latents.indptr[some.start : some.stop + 1]
        latent = np.repeat(np.arange(some.start, some.stop), np.diff(ends))
        of = window[latents.indices[ends[0] : ends[-1]]]
        pairs.append(np.unique(of[of >= 0] * width + latent[of >= 0]))
    pairs = np.sort(np.concatenate(pairs))
    start = np.searchsorted(pairs, np.arange(len(first_rows) + 1) * width)
    return start.astype(np.int64), (pairs % width).astype(np.int32)


def drawn(latents: sp.csc_matrix, places: Places, length: int, count: int, seed: int) -> dict[str, np.ndarray]:
    """The fields of a `Record` that begin with `drawn`."""
    sequence, position = places.sequence[places.at], places.position[places.at]
    first = choose(sequence, position, length, count, seed)
    start, found = fires(latents, first, length)
    tokens = places.tokens[places.at[first][:, None] + np.arange(length)].astype(np.int32)
    where = {"drawn_sequence": sequence[first], "drawn_position": position[first]}
    return {"drawn": tokens, **where, "drawn_start": start, "drawn_fires": found}
