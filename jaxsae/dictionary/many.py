"""Rows that do not fit on a device, or in memory: taken piece by piece, of few sizes, since each is compiled for."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
import scipy.sparse as sp

from jaxsae.dictionary.kinds import is_torch, to_torch
from jaxsae.dictionary.parameters import Latents
from jaxsae.errors import InputError
from jaxsae.progress import Progress, prefetched

ROWS = 4096  # at once
_AHEAD = 2  # pieces that are read while one is worked on


def is_large(x: Any) -> bool:
    """Whether x is to be taken piece by piece without being told: a memmap, an array of zarr or tensorstore, a view of a
    store, an iterator of batches; anything but an array in memory."""
    return isinstance(x, np.memmap) or not (isinstance(x, np.ndarray | jax.Array) or is_torch(x))


def pieces(x: Any, rows: int) -> Iterator[Any]:
    """Arrays [..., d] of about `rows` rows or fewer: stretches of the first dimension of an array, the items of an iterator.

    Raises:
      InputError: neither an array nor an iterable; rows below 1.
    """
    if rows < 1:
        raise InputError(f"batch_size={rows}: must be 1 or more")
    if not hasattr(x, "shape"):
        if not isinstance(x, Iterable) or isinstance(x, str | bytes | dict):
            raise InputError(f"{type(x).__name__}: give an array [..., d_model], or an iterator of such")
        for item in x:
            yield from pieces(item if hasattr(item, "shape") else np.asarray(item), rows)
        return
    if len(x.shape) < 2:
        raise InputError(f"an array of shape {list(x.shape)}: give [..., d_model]")
    step = max(1, rows // max(1, math.prod(x.shape[1:-1])))
    for first in range(0, x.shape[0], step):
        part = x[first : min(first + step, x.shape[0])]  # tensorstore takes no more than there is
        yield part if is_torch(part) or isinstance(part, jax.Array) else np.asarray(_read(part))


def _read(part: Any) -> Any:
    """What a lazy array gives: tensorstore's slices are read when asked."""
    return part.read().result() if hasattr(part, "read") and not isinstance(part, np.ndarray) else part


def over(x: Any, rows: int, work: Callable[[Any], Any]) -> Iterator[tuple[np.ndarray, ...]]:
    """What `work` makes of each piece, on the host, [rows of the piece, ...] each.

    Args:
      work: of rows [S, d], where S is `rows` or, while no piece has had so many, a power of two; gives arrays [S, ...].
    """
    size, whole = 1, math.prod(x.shape[:-1]) if hasattr(x, "shape") else None
    with Progress(whole, "encode", "row", scale=True) as bar:
        for part in prefetched(pieces(x, rows), _AHEAD):
            part = part.reshape(-1, part.shape[-1]) if part.ndim > 2 else part
            for first in range(0, len(part), max(rows, 1)):  # one of a first dimension may hold more
                some = part[first : first + rows]
                size = max(size, min(rows, 1 << (len(some) - 1).bit_length()))
                found = work(padded(some, size))
                yield tuple(np.asarray(array)[: len(some)] for array in found)
                bar.advance(len(some))


def padded(x: Any, size: int) -> Any:
    """Rows [size, d], the last one again and again: few shapes are compiled."""
    if len(x) == size:
        return x
    if is_torch(x):
        import torch

        return torch.cat([x, x[-1:].expand(size - len(x), -1)])
    return np.pad(np.asarray(x), ((0, size - len(x)), (0, 0)), mode="edge")


def joined(parts: Iterable[tuple[np.ndarray, np.ndarray]], x: Any) -> Latents:
    """The latents of all pieces of x, as wide as the widest: [..., k] with x's leading dimensions, [N, k] of an iterator.

    Raises:
      InputError: there are none.
    """
    parts = list(parts)
    if not parts:
        raise InputError("there are no rows to encode")
    rows, k = sum(len(values) for values, _ in parts), max(values.shape[1] for values, _ in parts)
    values, indices = np.zeros((rows, k), np.float32), np.zeros((rows, k), np.int32)
    parts.reverse()
    first = 0
    while parts:  # let go one by one: all of them and their join would be twice as much
        some, at = parts.pop()
        values[first : first + len(some), : some.shape[1]], indices[first : first + len(some), : some.shape[1]] = (
            some,
            at,
        )
        first += len(some)
    return Latents(like(values, x), like(indices, x))


def like(array: np.ndarray, x: Any) -> Any:
    """Rows [N, ...] with x's leading dimensions; a tensor on x's device where x is one."""
    whole = array.reshape(*x.shape[:-1], *array.shape[1:]) if hasattr(x, "shape") else array
    return to_torch(whole, x.device) if is_torch(x) else whole


def sparse(parts: Iterable[tuple[np.ndarray, np.ndarray]], width: int) -> sp.csr_matrix:
    """Latents [N, width] of pieces as one matrix; raises `InputError` where there are none."""
    rows = [active_matrix(*part, width) for part in parts]
    if not rows:
        raise InputError("there are no rows to encode")
    return sp.vstack(rows, format="csr")


def active_matrix(values: np.ndarray, indices: np.ndarray, width: int) -> sp.csr_matrix:
    """Sparse latents [B, k] as a matrix [B, width] that holds only what is active."""
    on = values != 0
    indptr = np.concatenate([[0], np.cumsum(on.sum(1))])
    matrix = sp.csr_matrix((values[on], indices[on], indptr), (len(values), width))
    matrix.sort_indices()
    return matrix
