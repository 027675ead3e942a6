"""A latent's activation at every token of its contexts."""

import numpy as np
import scipy.sparse as sp

from jaxsae.dashboard.places import Places, spread


def shaded(
    latents: sp.csc_matrix, places: Places, column: np.ndarray, begin: np.ndarray, end: np.ndarray, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens int32 [P, length], -1 behind the last, and values float32, NaN where no row is.

    Args:
      latents: [R, m]. column: int64 [P], whose context it is. begin, end: int64 [P], its tokens, of `Places.windows`.
    """
    number, inside = spread(begin, end, length)
    harvested = np.zeros(len(places.tokens), bool)
    harvested[places.at] = True
    tokens = np.where(inside, places.tokens[number], -1).astype(np.int32)
    values = np.where(inside & harvested[number], np.float32(0), np.float32(np.nan))
    entries = _between(latents, places, column, begin, end)
    counts = entries[1] - entries[0]
    context = np.repeat(np.arange(len(column)), counts)
    entry = np.arange(counts.sum()) + np.repeat(entries[0] - (np.cumsum(counts) - counts), counts)
    values[context, places.at[latents.indices[entry]] - begin[context]] = latents.data[entry]
    return tokens, values


def _between(
    latents: sp.csc_matrix, places: Places, column: np.ndarray, begin: np.ndarray, end: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The entries of each column from its first at a token of a window to the one behind its last."""
    tokens = len(places.tokens)
    of = np.repeat(np.arange(latents.shape[1], dtype=np.int64), np.diff(latents.indptr))
    key = of * tokens + places.at[latents.indices]  # ascending: columns in turn, rows in each
    low, high = (np.searchsorted(key, column * tokens + edge, side="left") for edge in (begin, end))
    return low, high
