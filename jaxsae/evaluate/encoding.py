"""Latents of many rows as a sparse matrix, and the rows of a model's sequences that a dictionary reads."""

import numpy as np
import scipy.sparse as sp

from jaxsae.dictionary import Dictionary
from jaxsae.dictionary.many import active_matrix
from jaxsae.evaluate.context import Context, check_finite
from jaxsae.evaluate.subject import Batch, Subject


def encode_rows(dictionary: Dictionary, x_NxD: np.ndarray, batch_size: int) -> sp.csr_matrix:
    """Active latents float32 [N, n] of rows [N, d_in], `batch_size` at once; what is not active is not stored."""
    parts, size = [], min(batch_size, 1 << max(0, len(x_NxD) - 1).bit_length())  # few shapes, each compiled once
    for first in range(0, len(x_NxD), size):
        x = x_NxD[first : first + size]
        found = dictionary.encode(np.pad(x, ((0, size - len(x)), (0, 0)), mode="edge"))
        values, indices = (np.asarray(a)[: len(x)] for a in (found.values, found.indices))
        parts.append(active_matrix(values, indices, dictionary.width))
    return sp.vstack(parts, format="csr")


def read_rows(context: Context, subject: Subject, batch: Batch) -> np.ndarray:
    """float32 [positions kept, d_in]: what the dictionary reads of a batch, of several sites side by side.

    Raises:
      InputError: NaN or Inf there.
    """
    seen = subject.read(batch, context.reads)
    x = np.concatenate([seen[site] for site in context.reads], 1) if len(context.reads) > 1 else seen[context.reads[0]]
    check_finite(x, f"{subject.name}, site {'+'.join(context.reads)}", 0)
    return x
