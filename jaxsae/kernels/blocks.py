"""Going through rows or latents a block at a time."""

from collections.abc import Callable
from typing import Any

import jax


def largest_divisor(number: int, most: int) -> int:
    """The largest divisor of `number` that is `most` or less; at least 1."""
    return next(size for size in range(max(min(number, most), 1), 0, -1) if number % size == 0)


def cut(tree: Any, start: jax.Array | int, count: int) -> Any:
    """Rows start to start + count of every array of a tree."""
    return jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, count), tree)


def paste(tree: Any, part: Any, start: jax.Array | int) -> Any:
    """The arrays of a tree with those of `part` in the place of their rows from `start` on."""
    return jax.tree.map(lambda a, b: jax.lax.dynamic_update_slice_in_dim(a, b, start, 0), tree, part)


def over_blocks(total: int, size: int, body: Callable[[Any, jax.Array | int, int], Any], state: Any) -> Any:
    """`body(state, number of the block, its count)` over blocks of `size` of `total`, then over what is left of them."""
    state = jax.lax.fori_loop(0, total // size, lambda number, s: body(s, number, size), state)
    return body(state, total // size, total % size) if total % size else state
