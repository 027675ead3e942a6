"""Selection over the whole batch: the `total` largest activations of all rows, on all devices.

Bussmann et al., BatchTopK (2412.06410). A threshold is found by bisection on the ordered bits of float32,
32 sums of one integer over the mesh; entries equal to it are kept by lowest row, then lowest latent, until
there are `total`, so that the choice is the same on every mesh.
"""

import jax
import jax.numpy as jnp

from jaxsae.kernels.counting import running_count
from jaxsae.kernels.encode_topk.parts.ordered_bits import LOWEST, kth_largest, ordered_bits
from jaxsae.parallel import AXES, DATA, MODEL


def _room(tied: jax.Array, room: jax.Array) -> jax.Array:
    """Which of the tied entries [B_local, k_local] have a place among the first `room`, by row, then latent."""
    by_shard = jax.lax.all_gather(tied.sum(1), MODEL)  # [model, B_local]
    by_row = by_shard.sum(0)
    on_data = jax.lax.all_gather(by_row.sum(), DATA)
    rows_before = jnp.where(jnp.arange(on_data.shape[0]) < jax.lax.axis_index(DATA), on_data, 0).sum()
    rows_before += jnp.cumsum(by_row) - by_row
    shards = jnp.arange(by_shard.shape[0])[:, None]
    before = rows_before + jnp.where(shards < jax.lax.axis_index(MODEL), by_shard, 0).sum(0)
    return before[:, None] + running_count(tied) <= room


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
    keys = jnp.where(nan[:, None], LOWEST, ordered_bits(values))
    threshold = kth_largest(lambda t: jax.lax.psum((keys >= t).sum(), AXES), total)
    above = keys > threshold
    room = total - jax.lax.psum(above.sum(), AXES)
    tied = keys == threshold
    return above | (tied & _room(tied, room)) | nan[:, None]
