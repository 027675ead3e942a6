"""The largest products of some rows with others, by the encoder that a TopK dictionary has: rows x others never stands in
memory, and every device is used as training uses it."""

import numpy as np

from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.progress import Progress

_AT_ONCE = 2048


def largest(
    rows_MxD: np.ndarray, others_NxD: np.ndarray, count: int, what: str, unit: str
) -> tuple[np.ndarray, np.ndarray]:
    """Of each row the `count` others that have the largest product with it, above 0.

    Returns:
      int32 [M, count], the largest first, -1 where there are no more, and the products, float32, 0 there.
    """
    (m, d), n = rows_MxD.shape, len(others_NxD)
    ids, products = np.full((m, count), -1, np.int32), np.zeros((m, count), np.float32)
    k = min(count, n)
    if not k or not m:
        return ids, products
    zero = np.zeros(n, np.float32)
    params = Params.of(others_NxD, zero, others_NxD, np.zeros(d, np.float32))
    encoder = Dictionary(params, MethodConfig(width=n, k=k))
    size = min(_AT_ONCE, 1 << max(0, m - 1).bit_length())  # few shapes, each compiled once
    with Progress(m, what, unit, scale=True) as bar:
        for first in range(0, m, size):
            x = rows_MxD[first : first + size]
            found = encoder.encode(np.pad(x, ((0, size - len(x)), (0, 0))))
            values, indices = (np.asarray(a)[: len(x)] for a in (found.values, found.indices))
            at = slice(first, first + len(x))
            ids[at, :k] = np.where(values > 0, indices, -1)
            products[at, :k] = np.maximum(values, 0)
            bar.advance(len(x))
    return ids, products


def nearest(unit_NxD: np.ndarray, shown: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each latent `shown` the `count` latents with the most similar decoder rows, without itself, and the cosines.

    Args:
      unit_NxD: float32 decoder rows at length 1, or 0 of a latent without a direction, which is near to none.
    """
    ids, cosines = largest(unit_NxD[shown], unit_NxD, count + 1, "nearest decoder rows", "latent")
    own = ids == shown[:, None]
    own[~own.any(1), -1] = True  # as many as it are nearer: twins of it
    others = ~own
    return ids[others].reshape(len(shown), count), cosines[others].reshape(len(shown), count)
