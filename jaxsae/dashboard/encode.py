"""All rows through a dictionary, once, into one sparse matrix whose columns are latents.

What is active goes to a temporary file as it comes, 8 bytes each, and from there to where the matrix has it once each
latent's number is known: in memory there stands no more than the matrix itself.
"""

import tempfile
from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp

from jaxsae.dictionary import Dictionary
from jaxsae.errors import reraise_if_disk_full
from jaxsae.evaluate.encoding import encode_rows
from jaxsae.progress import Progress

_ENTRIES = 1 << 22  # that are put in place at once


def encoded(dictionary: Dictionary, batches: Iterator[np.ndarray], rows: int, batch_size: int) -> sp.csc_matrix:
    """Active latents float32 [rows, n] of batches [B, d_in] that are `rows` together."""
    try:
        with tempfile.TemporaryFile(prefix="jaxsae-latents-") as file:
            return _placed(file, *_spilled(file, dictionary, batches, rows, batch_size))
    except OSError as error:
        reraise_if_disk_full(error, tempfile.gettempdir())
        raise


def _spilled(
    file, dictionary: Dictionary, batches: Iterator[np.ndarray], rows: int, batch_size: int
) -> tuple[np.ndarray, int]:
    """Writes (latent, value) row by row; int64 [rows + 1], where each row's begin, and how many latents there are."""
    sizes, at = np.zeros(rows, np.int64), 0
    with Progress(rows, "latents of", "row", scale=True) as bar:
        for x in batches:
            part = encode_rows(dictionary, x, batch_size)
            sizes[at : at + len(x)] = np.diff(part.indptr)
            pairs = np.empty((part.nnz, 2), np.int32)
            pairs[:, 0], pairs[:, 1] = part.indices, part.data.astype(np.float32).view(np.int32)
            file.write(pairs.tobytes())
            at += len(x)
            bar.advance(len(x))
    file.flush()
    assert at == rows, f"{at} rows came for {rows}"
    return np.concatenate([[0], np.cumsum(sizes)]), dictionary.width


def _placed(file, starts: np.ndarray, width: int) -> sp.csc_matrix:
    """The matrix [rows, width] of what `_spilled` wrote."""
    total, rows = int(starts[-1]), len(starts) - 1
    pairs = np.memmap(file, np.int32, "r", shape=(total, 2)) if total else np.empty((0, 2), np.int32)
    sizes = np.zeros(width, np.int64)
    for first in range(0, total, _ENTRIES):
        sizes += np.bincount(pairs[first : first + _ENTRIES, 0], minlength=width)
    indptr = np.concatenate([[0], np.cumsum(sizes)])
    data, indices, fill = np.empty(total, np.float32), np.empty(total, np.int32), indptr[:-1].copy()
    first = 0
    while first < rows:
        last = max(first + 1, int(np.searchsorted(starts, starts[first] + _ENTRIES, side="right")) - 1)
        some = np.asarray(pairs[starts[first] : starts[last]])
        row_ends = (starts[first : last + 1] - starts[first]).astype(np.int64)
        values = np.ascontiguousarray(some[:, 1]).view(np.float32)
        part = sp.csr_matrix((values, np.ascontiguousarray(some[:, 0]), row_ends), (last - first, width)).tocsc()
        counts = np.diff(part.indptr)
        to = np.arange(part.nnz) + np.repeat(fill - part.indptr[:-1], counts)
        data[to], indices[to] = part.data, part.indices + first
        fill += counts
        first = last
    matrix = sp.csc_matrix((data, indices, indptr), (rows, width))
    matrix.has_sorted_indices = True
    return matrix
