"""What there is to find on a board: 192 targets, and where their squares lie."""

import numpy as np

from jaxsae.lm.othello import Games, bits

STATES = ("empty", "mine", "theirs")
FOUND = 0.9  # the AUROC above which a target counts as found
RINGS = ("centre", "second", "third", "edge")
RING_OF_SQUARE = np.array([3 - min(row, 7 - row, column, 7 - column) for row in range(8) for column in range(8)])
RING_OF_TARGET = np.tile(RING_OF_SQUARE, len(STATES))


def board_labels(games: Games, positions: slice) -> np.ndarray:
    """bool [G * P, 192], game after game: square by square whether it is empty, then mine, then theirs."""
    mine, theirs = (bits(masks[:, positions]).astype(bool) for masks in (games.own, games.opponent))
    return np.concatenate([~(mine | theirs), mine, theirs], -1).reshape(-1, 192)


def both_present(labels_NxT: np.ndarray) -> np.ndarray:
    """bool [T]: targets that hold on some rows and not on others."""
    return labels_NxT.any(0) & ~labels_NxT.all(0)


def mean_of_defined(values: np.ndarray) -> float | None:
    """The mean of what is not NaN, None where all is."""
    return None if np.isnan(values).all() else float(np.nanmean(values))
