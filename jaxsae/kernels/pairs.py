"""Sums over (row, latent) pairs, chunk by chunk, so that no [B, k, d] block ever stands.

Two layouts. `[B, k]` lists, where row b holds its k latents: the natural one where a device has all
latents. Flat lists of pairs with a capacity: on one shard of many most of a [B, k] list is empty, and
the flat list costs what the shard's own pairs cost. A capacity that overflows falls back to the whole
list, in the same program, so the result is always exact.

All sums run in a fixed order: on CPU and TPU the same input gives the same bits. On Hopper GPUs
`hopper_pairs.py` does the same; on other GPUs XLA's scatter adds atomically, in no order.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxsae.kernels import hopper_pairs
from jaxsae.kernels.by_layer import by_layer, layer_of, layers_of
from jaxsae.kernels.counting import places, running_count
from jaxsae.parallel import MODEL
from jaxsae.platform import full_precision, target_platform

CHUNK_NUMBERS = 2**20  # numbers of a gathered [chunk, k, d] block


def capacity_of(batch: int, k: int) -> int | None:
    """Places of a shard's flat list of pairs: half again as many as its even share. None: one shard has all."""
    shards = jax.lax.psum(1, MODEL)
    return None if shards == 1 else min(batch * k, -(-3 * batch * k // (2 * shards)) + 1024)


def _float32(table: jax.Array) -> dict[str, Any]:
    """How sums over rows of `table` are made."""
    return {"precision": full_precision(table.dtype), "preferred_element_type": jnp.float32}


def gather_sum(values: jax.Array, indices: jax.Array, table: jax.Array) -> jax.Array:
    """y[b] = sum_j values[b, j] table[indices[b, j]]: [B, k], [B, k], [n, d] -> float32 [B, d]."""
    (batch, k), d = values.shape, table.shape[1]
    if hopper_pairs.runs_here(d):
        return hopper_pairs.gather_sum(values, indices, table)
    size = _rows_of_a_chunk(batch, k * d)

    def chunk(part):
        v, i = part
        return jnp.einsum("bk,bkd->bd", v.astype(table.dtype), table[i], **_float32(table))

    def whole():
        return jax.lax.map(chunk, _split(size, values, indices)).reshape(batch, d)

    def flat(v, rows, latents):
        total = jnp.zeros((batch, d), jnp.float32)
        return _flat_scan(total, (v, rows, latents), lambda v, r, i: (r, v[:, None] * table[i]))

    return _in_cheaper_layout(values, indices, flat, whole)


def gather_dot(y: jax.Array, values: jax.Array, indices: jax.Array, table: jax.Array) -> jax.Array:
    """g[b, j] = <y[b], table[indices[b, j]]> where values[b, j] is not 0: [B, d], [n, d] -> float32 [B, k]."""
    (batch, k), d = indices.shape, table.shape[1]
    if hopper_pairs.runs_here(d):
        return hopper_pairs.gather_dot(y, values, indices, table)

    def flat(v, rows, latents):
        live = (values != 0).reshape(-1)
        dots = jax.lax.map(lambda p: (y[p[0]] * table[p[1]]).sum(-1), (rows, latents), batch_size=_flat_chunk(v, d))
        place = jnp.clip(running_count(live) - 1, 0, v.shape[0] - 1)
        return jnp.where(live, dots[place], 0).reshape(batch, k)

    return _in_cheaper_layout(values, indices, flat, lambda: all_dots(y, indices, table))


def all_dots(y: jax.Array, indices: jax.Array, table: jax.Array) -> jax.Array:
    """g[b, j] = <y[b], table[indices[b, j]]>: [B, d], [B, k], [n, d] -> float32 [B, k]."""
    (batch, k), d = indices.shape, table.shape[1]

    def chunk(part):
        yy, i = part
        return jnp.einsum("bd,bkd->bk", yy.astype(table.dtype), table[i], **_float32(table))

    size = _rows_of_a_chunk(batch, k * d)
    return jax.lax.map(chunk, _split(size, y, indices)).reshape(batch, k)


def segment_outer(total: jax.Array, values: jax.Array, indices: jax.Array, rows: jax.Array) -> jax.Array:
    """total[i] + sum over pairs (b, j) with indices[b, j] = i of values[b, j] rows[b]: float32 [n, d].

    Args:
      total: [n, d], see `zeros`. values, indices: [B, k]. rows: [B, d].
    """
    (batch, k), d = values.shape, rows.shape[1]
    size = _rows_of_a_chunk(batch, k * d)

    def chunk(total, part):
        v, i, r = part
        outer = (v[:, :, None] * r[:, None, :]).reshape(size * k, d)
        return total.at[i.reshape(-1)].add(outer, mode="promise_in_bounds"), None

    def whole():
        return jax.lax.scan(chunk, total, _split(size, values, indices, rows.astype(jnp.float32)))[0]

    def flat(v, at, latents):
        return _flat_scan(total, (v, at, latents), lambda v, r, i: (i, v[:, None] * rows[r]))

    return _in_cheaper_layout(values, indices, flat, whole)


def parts_sum(values: jax.Array, indices: jax.Array, part: jax.Array, parts: int, table: jax.Array) -> jax.Array:
    """As `gather_sum`, each pair added to the part of the sum that it belongs to: float32 [parts, B, d].

    Args:
      part: int32 [B, k], from 0 to parts - 1.
    """
    (batch, k), d = values.shape, table.shape[1]
    if hopper_pairs.runs_here(d):
        return jnp.stack([gather_sum(jnp.where(part == g, values, 0), indices, table) for g in range(parts)])
    size = _rows_of_a_chunk(batch, k * d)

    def chunk(rows):
        v, i, g = rows
        weights = jnp.where(g[:, None] == jnp.arange(parts)[:, None], v[:, None], 0)  # [C, parts, k]
        return jnp.einsum("bgk,bkd->bgd", weights.astype(table.dtype), table[i], **_float32(table))

    sums = jax.lax.map(chunk, _split(size, values, indices, part))
    return sums.reshape(batch, parts, d).transpose(1, 0, 2)


def parts_dot(y: jax.Array, values: jax.Array, indices: jax.Array, part: jax.Array, table: jax.Array) -> jax.Array:
    """As `gather_dot`, each pair with the part of y [parts, B, d] that it belongs to: float32 [B, k]."""
    (batch, k), d = indices.shape, table.shape[1]
    if hopper_pairs.runs_here(d):
        dots = [gather_dot(one, jnp.where(part == g, values, 0), indices, table) for g, one in enumerate(y)]
        return sum(jnp.where(part == g, dot, 0) for g, dot in enumerate(dots))
    size = _rows_of_a_chunk(batch, k * d)

    def chunk(rows):
        yy, i, g = rows
        own = jnp.take_along_axis(yy, g[:, :, None], 1)  # [C, k, d]
        return (own.astype(table.dtype) * table[i]).sum(-1, dtype=jnp.float32)

    return jax.lax.map(chunk, _split(size, y.transpose(1, 0, 2), indices, part)).reshape(batch, k)


def dots_by_layer(x: jax.Array, indices: jax.Array, w_enc: jax.Array) -> jax.Array:
    """float32 [B, k]: <the part of x [B, L d] that a latent reads, W_enc,i> of the latents [B, k] of each row."""
    layers = layers_of(x, w_enc)
    if layers == 1:
        return all_dots(x, indices, w_enc)
    parts = by_layer(x, layers).transpose(1, 0, 2)
    return parts_dot(parts, jnp.ones(indices.shape, x.dtype), indices, layer_of(indices, layers), w_enc)


def row_dots(a: jax.Array, b: jax.Array) -> jax.Array:
    """<a[i], b[i]>: [n, d], [n, d] -> [n, 1].

    A block that stays in a CPU's cache is multiplied and then summed by a product with ones: the reduction
    that XLA's CPU backend makes of the sum takes five times as long. Larger arrays must not be stored for it.
    """
    if target_platform() == "cpu" and a.size <= CHUNK_NUMBERS:
        return jnp.matmul(a * b, jnp.ones((a.shape[1], 1), a.dtype), precision=jax.lax.Precision.HIGHEST)
    return (a * b).sum(-1, keepdims=True)


def zeros(width: int, d: int, values: jax.Array) -> jax.Array:
    """float32 [width, d] to sum into, a buffer of its own.

    Plain zeros are one constant to the compiler, which then copies it for each of the sums that start from
    it: as many bytes again as the gradient. So the zero is drawn from data, which it cannot know to be 0.
    """
    return jnp.full((width, d), jnp.minimum(jnp.abs(values[0, 0]), 0))


def flatten(values: jax.Array, indices: jax.Array, capacity: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The pairs of [B, k] lists whose value is not 0, as flat (values, rows, latents) of `capacity`.

    Spare places have value 0, row 0 and latent 0. Pairs beyond the capacity are lost.
    """
    at, live = places((values != 0).reshape(-1), capacity)
    at = jnp.minimum(at, values.size - 1)
    value = jnp.where(live, values.reshape(-1)[at], 0)
    return value, jnp.where(live, at // values.shape[1], 0), jnp.where(live, indices.reshape(-1)[at], 0)


def _in_cheaper_layout(values: jax.Array, indices: jax.Array, flat: Callable, whole: Callable) -> jax.Array:
    """`flat(*pairs)` where they fit into the shard's capacity, else `whole()`.

    No collectives may stand inside either: the shards of a mesh decide each for itself.
    """
    capacity = capacity_of(*values.shape)
    if capacity is None or capacity >= values.size:
        return whole()
    overflow = (values != 0).sum() > capacity
    return jax.lax.cond(overflow, whole, lambda: flat(*flatten(values, indices, capacity)))


def _flat_chunk(values: jax.Array, d: int) -> int:
    return max(1, min(values.shape[0], CHUNK_NUMBERS // d))


def _flat_scan(total: jax.Array, flat: tuple[jax.Array, ...], pair_rows: Callable) -> jax.Array:
    """Adds to `total` the rows that `pair_rows(*chunk)` gives, at the places that it gives, chunk by chunk."""
    size = _flat_chunk(flat[0], total.shape[1])
    padded = (jnp.pad(a, (0, -a.shape[0] % size)).reshape(-1, size) for a in flat)

    def chunk(total, part):
        at, rows = pair_rows(*part)
        return total.at[at].add(rows.astype(jnp.float32), mode="promise_in_bounds"), None

    return jax.lax.scan(chunk, total, tuple(padded))[0]


def _rows_of_a_chunk(batch: int, per_row: int) -> int:
    """A power of two within the budget that divides `batch`, if any does."""
    size = 1
    while size * 2 * per_row <= CHUNK_NUMBERS and batch % (size * 2) == 0:
        size *= 2
    return size


def _split(size: int, *arrays: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(a.reshape(a.shape[0] // size, size, *a.shape[1:]) for a in arrays)
