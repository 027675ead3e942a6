"""Sums over (row, latent) pairs, chunk by chunk, so that no [B, k, d] block ever stands.

Two layouts. `[B, k]` lists, where row b holds its k latents: the natural one where a device has all
latents. Flat lists of pairs with a capacity: on one shard of many most of a [B, k] list is empty, and
the flat list costs what the shard's own pairs cost. A capacity that overflows falls back to the whole
list, in the same program, so the result is always exact.

All sums run in a fixed order: on CPU and TPU the same input gives the same bits.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

CHUNK_NUMBERS = 2**20  # numbers of a gathered [chunk, k, d] block


def _chunks(batch: int, per_row: int) -> int:
    """Rows of a chunk: a power of two within the budget that divides `batch`, if any does."""
    size = 1
    while size * 2 * per_row <= CHUNK_NUMBERS and batch % (size * 2) == 0:
        size *= 2
    return size


def _split(size: int, *arrays: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(a.reshape(a.shape[0] // size, size, *a.shape[1:]) for a in arrays)


def gather_sum(values: jax.Array, indices: jax.Array, table: jax.Array) -> jax.Array:
    """y[b] = sum_j values[b, j] table[indices[b, j]]: [B, k], [B, k], [n, d] -> float32 [B, d]."""
    (batch, k), d = values.shape, table.shape[1]
    size = _chunks(batch, k * d)

    def chunk(part):
        v, i = part
        return jnp.einsum("bk,bkd->bd", v.astype(table.dtype), table[i], preferred_element_type=jnp.float32)

    return jax.lax.map(chunk, _split(size, values, indices)).reshape(batch, d)


def gather_dot(y: jax.Array, indices: jax.Array, table: jax.Array) -> jax.Array:
    """g[b, j] = <y[b], table[indices[b, j]]>: [B, d], [B, k], [n, d] -> float32 [B, k]."""
    (batch, k), d = indices.shape, table.shape[1]
    size = _chunks(batch, k * d)

    def chunk(part):
        yy, i = part
        return jnp.einsum("bd,bkd->bk", yy.astype(table.dtype), table[i], preferred_element_type=jnp.float32)

    return jax.lax.map(chunk, _split(size, y, indices)).reshape(batch, k)


def segment_outer(values: jax.Array, indices: jax.Array, rows: jax.Array, width: int) -> jax.Array:
    """G[i] = sum over pairs (b, j) with indices[b, j] = i of values[b, j] rows[b]: float32 [width, d]."""
    (batch, k), d = values.shape, rows.shape[1]
    size = _chunks(batch, k * d)

    def chunk(total, part):
        v, i, r = part
        outer = (v[:, :, None] * r[:, None, :]).reshape(size * k, d)
        return total.at[i.reshape(-1)].add(outer, mode="promise_in_bounds"), None

    return jax.lax.scan(chunk, zeros(width, d, values), _split(size, values, indices, rows.astype(jnp.float32)))[0]


def zeros(width: int, d: int, values: jax.Array) -> jax.Array:
    """float32 [width, d] to sum into, a buffer of its own.

    Plain zeros are one constant to the compiler, which then copies it for each of the sums that start from
    it: as many bytes again as the gradient. So the zero is drawn from data, which it cannot know to be 0.
    """
    return jnp.full((width, d), jnp.minimum(jnp.abs(values[0, 0]), 0))


def flatten(values: jax.Array, indices: jax.Array, capacity: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The pairs of [B, k] lists whose value is not 0, as flat (values, rows, latents) of `capacity`.

    Spare places have value 0, row 0 and latent 0. Pairs beyond the capacity are lost: see `overflows`.
    """
    k = values.shape[1]
    live = (values != 0).reshape(-1)
    at = jnp.nonzero(live, size=capacity, fill_value=0)[0]
    spare = jnp.arange(capacity) >= live.sum()
    value = jnp.where(spare, 0, values.reshape(-1)[at])
    return value, jnp.where(spare, 0, at // k), jnp.where(spare, 0, indices.reshape(-1)[at])


def overflows(values: jax.Array, capacity: int) -> jax.Array:
    """Whether [B, k] lists hold more non-zero pairs than `capacity`."""
    return (values != 0).sum() > capacity


def with_capacity(values: jax.Array, capacity: int | None, flat: Callable, whole: Callable) -> jax.Array:
    """`flat()` where the pairs fit into `capacity`, else `whole()`; `whole()` alone where there is no capacity.

    No collectives may stand inside either: the shards of a mesh decide each for itself.
    """
    if capacity is None or capacity >= values.size:
        return whole()
    return jax.lax.cond(overflows(values, capacity), whole, flat)
