"""Which activations of latents a reader is shown: the strongest, and some of every strength.

All latents of a matrix at once: entries of a column stand in the order of rows, so that those of one group (a sequence) stand
together, and the best of each is a maximum over a stretch.
"""

import dataclasses

import numpy as np
import scipy.sparse as sp

from jaxsae.dashboard.record import TOP


@dataclasses.dataclass(frozen=True)
class Chosen:
    """P activations, by latent, the strongest first, then band by band, the strongest of each first.

    Attributes:
      entry: int64 [P], which of the matrix's. latent: int64 [P], its column. band: int8 [P].
    """

    entry: np.ndarray
    latent: np.ndarray
    band: np.ndarray


def choose(
    latents: sp.csc_matrix,
    numbers: np.ndarray,
    most: np.ndarray,
    groups: np.ndarray,
    alike: np.ndarray | None,
    top: int,
    bands: int,
    per_band: int,
    seed: int,
) -> Chosen:
    """The `top` strongest activations of each latent, one of a group, and `per_band` of each of `bands` equal parts of 0 to
    `most`, drawn from groups that show none of these.

    Args:
      latents: [R, m]. numbers: int [m], what the latents are called, for the draw: it does not change with who else is
        looked at. most: [m]. groups: int64 [R], ascending. alike: int32 [R], None: all rows look different.
    """
    size = np.abs(latents.data)
    column = np.repeat(np.arange(latents.shape[1], dtype=np.int64), np.diff(latents.indptr))
    row = latents.indices
    if not len(size):
        return Chosen(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int8))
    group = groups[row]
    begins = np.flatnonzero(np.concatenate([[True], (np.diff(column) != 0) | (np.diff(group) != 0)]))
    best = _first_where(size == np.repeat(np.maximum.reduceat(size, begins), _lengths(begins, size)), begins)
    strongest = _ranked(best, column, size, alike[row] if alike is not None else None, top)
    if not per_band:
        return Chosen(strongest, column[strongest], np.full(len(strongest), TOP, np.int8))
    luck = _hash(seed, numbers[column], row)
    drawn = _first_where(luck == np.repeat(np.minimum.reduceat(luck, begins), _lengths(begins, luck)), begins)
    taken = np.zeros(len(begins), bool)
    taken[np.searchsorted(begins, strongest, side="right") - 1] = True
    drawn = drawn[~taken]
    if alike is not None:  # nor what looks like one of the strongest, or like another that is drawn
        drawn = _one_of_alike(drawn, luck, column, alike[row])
        shown = _pairs(column[strongest], alike[row[strongest]])
        drawn = drawn[~np.isin(_pairs(column[drawn], alike[row[drawn]]), shown)]
    band = np.clip(np.ceil(np.float64(size[drawn]) / most[column[drawn]] * bands), 1, bands).astype(np.int64)
    order = np.lexsort((luck[drawn], band, column[drawn]))
    drawn, band = drawn[order], band[order]
    kept = _rank(column[drawn] * (bands + 1) + band) < per_band
    entry = np.concatenate([strongest, drawn[kept]])
    band = np.concatenate([np.full(len(strongest), TOP), band[kept]]).astype(np.int8)
    order = np.lexsort((-size[entry], band, column[entry]))
    return Chosen(entry[order], column[entry[order]], band[order])


def _ranked(entry: np.ndarray, column: np.ndarray, size: np.ndarray, alike: np.ndarray | None, top: int) -> np.ndarray:
    """Of some entries the `top` strongest of each column, of those that look alike the strongest alone."""
    if alike is not None:
        entry = _one_of_alike(entry, -size, column, alike)
    entry = entry[np.lexsort((entry, -size[entry], column[entry]))]
    return entry[_rank(column[entry]) < top]


def _one_of_alike(entry: np.ndarray, order: np.ndarray, column: np.ndarray, alike: np.ndarray) -> np.ndarray:
    """Of some entries of a column that look alike the one that comes first by `order`."""
    entry = entry[np.lexsort((entry, order[entry], alike[entry], column[entry]))]
    return entry[_rank(_pairs(column[entry], alike[entry])) == 0]


def _rank(key: np.ndarray) -> np.ndarray:
    """The place of each among those before it of the same key, from 0; keys ascend."""
    if not len(key):
        return np.zeros(0, np.int64)
    begins = np.flatnonzero(np.concatenate([[True], np.diff(key) != 0]))
    return np.arange(len(key)) - np.repeat(begins, _lengths(begins, key))


def _lengths(begins: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.diff(np.append(begins, len(whole)))


def _first_where(holds: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """int64: the first place in each stretch where something holds, as it does somewhere in each."""
    places = np.flatnonzero(holds)
    return places[np.searchsorted(places, begins)]


def _pairs(column: np.ndarray, alike: np.ndarray) -> np.ndarray:
    """One number for a column and what its rows look like."""
    return column << 32 | alike


def _hash(seed: int, latent: np.ndarray, row: np.ndarray) -> np.ndarray:
    """uint64, as good as random, of seed, latent and row (the finaliser of splitmix64, twice)."""
    with np.errstate(over="ignore"):
        x = latent.astype(np.uint64) << np.uint64(32) | row.astype(np.uint64)
        for constant in (np.uint64(seed), np.uint64(0x9E3779B97F4A7C15)):
            x = x + constant
            x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            x = x ^ (x >> np.uint64(31))
    return x
