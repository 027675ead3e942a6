"""The weights of a dictionary a range of latents at a time, so that no copy of them ever stands whole."""

from collections import Counter
from collections.abc import Callable, Iterator

import jax
import numpy as np

from jaxsae.dictionary import Dictionary
from jaxsae.errors import InputError
from jaxsae.exchange.weights import FIX, Weights, not_finite
from jaxsae.progress import Progress

BYTES = 64 << 20  # of a range's float32 rows of encoder and decoder
# Products of a matrix and a vector round the last rows of a range, where these are no multiple of this, in another order.
ROWS = 64


def ranges(dictionary: Dictionary) -> Iterator[slice]:
    """Ranges that cover all latents, none over an edge of a checkpoint's chunks and each with latents of every layer."""
    array, layers, width = dictionary.params.W_enc, dictionary.config.layers, dictionary.width
    numbers = array.shape[1] + dictionary.params.W_dec.shape[1]
    step = max(1, BYTES // (4 * numbers * ROWS * layers)) * ROWS * layers
    chunk = getattr(array, "chunk", width)
    chunk = width if chunk % (ROWS * layers) else chunk
    for edge in range(0, width, chunk):
        end = min(edge + chunk, width)
        for first in range(edge, end, step):
            yield slice(first, min(first + step, end))


def pieces(dictionary: Dictionary, change: Callable[[Weights], Weights] = lambda w: w) -> Iterator[Weights]:
    """The weights of each range, in units of the activations, after `change`.

    Raises:
      InputError: a weight or the threshold is NaN or infinite; raised in place of the piece that has it, when all were seen.
    """
    if not np.isfinite(dictionary.threshold):
        raise InputError(f"the dictionary: its threshold is {dictionary.threshold}; {FIX}.")
    bad, latent = Counter(), dictionary.params.latent
    shared = {name: np.asarray(array, np.float32) for name, array in dictionary.params.shared.items()}
    bad.update(not_finite(shared))
    with Progress(dictionary.width, "export", "latents", scale=True) as progress:
        for rows in ranges(dictionary):
            of_rows = {name: _rows(array, rows) for name, array in latent.items()}
            bad.update(not_finite(of_rows))
            if not bad.total():
                yield change(Weights.of(of_rows | shared))
            progress.advance(rows.stop - rows.start)
    for name in Weights.of(dict(latent) | shared).arrays:
        if bad[name]:
            raise InputError(f"the dictionary: {bad[name]:,} values of {name} are NaN or infinite; {FIX}.")


def _rows(array: jax.Array | np.ndarray, rows: slice) -> np.ndarray:
    """A range of an array on a device, on the host, or in a checkpoint."""
    if isinstance(array, jax.Array):
        if array.is_fully_addressable and array.sharding.device_set == {*jax.local_devices(backend="cpu")[:1]}:
            return np.asarray(array)[rows]  # which is no copy
        return np.asarray(jax.lax.dynamic_slice_in_dim(array, rows.start, rows.stop - rows.start), np.float32)
    return np.asarray(array[rows], np.float32)
