"""What became of each latent of a dictionary in another one: shared, split, a part, a sum, or new.

With c_i the cosine of latent i with its nearest one of the other dictionary, and t the threshold, latent i is

    split   c_i >= t, and i is itself the nearest, at t or more, of two or more of the other's
    part    c_i >= t, else, and its nearest one is so of two or more on this side: the other way round
    one     c_i >= t, else: one latent here, one there
    sum     c_i < t, and several of the other's together, with weights above 0, come to t
    new     c_i < t, else

Shared are the first three.
"""

from typing import Any

import numpy as np

from jaxsae.evaluate import intervals
from jaxsae.evaluate.compare.cosines import Nearest

ONE, SPLIT, PART, SUM, NEW, NONE = range(6)
NAMES = ("one", "split", "part", "sum", "new")
SHARED = (ONE, SPLIT, PART)


def claimed(others: Nearest, count: int, threshold: float) -> np.ndarray:
    """int [count]: how many of the others have each latent as their nearest, at the threshold or more."""
    near = others.index[others.there & (others.cosine >= threshold)]
    return np.bincount(near, minlength=count)


def kinds(own: Nearest, others: Nearest, together: np.ndarray, threshold: float) -> np.ndarray:
    """int [n]: ONE, SPLIT, ..., NONE of a latent without a direction.

    Args:
      own: of each latent the nearest other one. others: of each other one the nearest of these.
      together: [n], the cosine with the best sum of several others.
    """
    near = own.cosine >= threshold
    here = claimed(others, len(own.index), threshold)
    there = claimed(own, len(others.index), threshold)[np.maximum(own.index, 0)]
    found = np.where(together >= threshold, SUM, NEW)
    found = np.where(near, np.where(here >= 2, SPLIT, np.where(there >= 2, PART, ONE)), found)
    return np.where(own.there, found, NONE)


def mutual(own: Nearest, others: Nearest) -> np.ndarray:
    """bool [n]: latents whose nearest one has them as its nearest."""
    return own.there & (others.index[np.maximum(own.index, 0)] == np.arange(len(own.index)))


def figures(own: Nearest, found: np.ndarray, pairs: np.ndarray, counted: np.ndarray) -> dict[str, Any]:
    """Of the latents of one side.

    Args:
      own: their nearest ones. found: their kinds. pairs: whether they are mutual. counted: which of them count.

    Returns:
      `latents`, `mean_max_cosine` and `shared` with their intervals (95%, over latents), `kinds` {name: latents}, `mutual`:
      the share of them that are their nearest one's nearest.
    """
    counted = counted & own.there
    count, cosine, found = int(counted.sum()), own.cosine[counted], found[counted]
    shared = int(np.isin(found, SHARED).sum())
    return {
        "latents": count,
        "mean_max_cosine": float(cosine.mean()) if count else None,
        "mean_max_cosine_interval": intervals.of_mean(cosine),
        "shared": shared / count if count else None,
        "shared_interval": intervals.of_share(shared, count),
        "kinds": {name: int((found == kind).sum()) for kind, name in enumerate(NAMES)},
        "mutual": float(pairs[counted].mean()) if count else None,
    }
