"""Selection over the whole batch: the `total` largest activations of all rows, on all devices.

Bussmann et al., BatchTopK (2412.06410). A threshold is found by bisection on the ordered bits of float32,
32 sums of one integer over the mesh; entries equal to it are kept by lowest row, then lowest latent, until
there are `total`, so that the choice is the same on every mesh.
"""

import jax
import jax.numpy as jnp

from jaxsae.parallel import AXES, DATA, MODEL


def ordered_bits(values: jax.Array) -> jax.Array:
    """float32 -> int32 in the same order (-0.0 before 0.0; NaN beyond the infinities)."""
    bits = jax.lax.bitcast_convert_type(values, jnp.int32)
    return jnp.where(bits < 0, bits ^ jnp.int32(0x7FFFFFFF), bits)


def _threshold(keys: jax.Array, total: int) -> jax.Array:
    """The largest int32 t such that at least `total` keys over the whole mesh are t or above."""

    def halve(number, low):
        bit = 31 - number
        step = jnp.where(bit == 31, 0, jnp.left_shift(jnp.int32(1), jnp.minimum(bit, 30)))
        candidate = jnp.where(bit == 31, 0, low + step)
        count = jax.lax.psum((keys >= candidate).sum(), AXES)
        return jnp.where(count >= total, candidate, low)

    return jax.lax.fori_loop(0, 32, halve, jnp.int32(-(2**31)))


def _room(tied: jax.Array, room: jax.Array) -> jax.Array:
    """Which of the tied entries [B_local, k_local] have a place among the first `room`, by row, then latent."""
    by_shard = jax.lax.all_gather(tied.sum(1), MODEL)  # [model, B_local]
    by_row = by_shard.sum(0)
    on_data = jax.lax.all_gather(by_row.sum(), DATA)
    rows_before = jnp.where(jnp.arange(on_data.shape[0]) < jax.lax.axis_index(DATA), on_data, 0).sum()
    rows_before += jnp.cumsum(by_row) - by_row
    shards = jnp.arange(by_shard.shape[0])[:, None]
    before = rows_before + jnp.where(shards < jax.lax.axis_index(MODEL), by_shard, 0).sum(0)
    return before[:, None] + jnp.cumsum(tied, 1) <= room


def merge_over_batch(values: jax.Array, total: int) -> jax.Array:
    """Which entries of every device's lists are among the batch's `total` best.

    Args:
      values: [B_local, k_local], descending in each row: candidates of this device's rows and latents.
      total: entries to keep over the whole mesh.

    Returns:
      bool [B_local, k_local]. All True in rows that hold a NaN, so that it stays visible. A row whose last
      candidate is kept may have had more to give: its list was too short for it.
    """
    nan = jax.lax.psum(jnp.isnan(values).any(1).astype(jnp.int32), MODEL) > 0
    keys = jnp.where(nan[:, None], jnp.int32(-(2**31)), ordered_bits(values))
    threshold = _threshold(keys, total)
    above = keys > threshold
    room = total - jax.lax.psum(above.sum(), AXES)
    tied = keys == threshold
    return above | (tied & _room(tied, room)) | nan[:, None]
