"""The k best of each row over all `model` shards, found by counting instead of gathering.

Gathering candidates costs shards x k_local numbers a row in traffic and in memory, which for AuxK's lists on
many shards comes near the row's pre-activations themselves: 131,072 of them for 64 shards of 2,048. Here a
row's k-th value is found by bisection on the ordered bits of float32, 32 sums of one integer a row.
"""

import jax
import jax.numpy as jnp

from jaxsae.kernels.counting import running_count
from jaxsae.kernels.encode_topk.parts.ordered_bits import kth_largest, ordered_bits
from jaxsae.parallel import MODEL


def merge_by_bisection(values: jax.Array, k: int) -> jax.Array:
    """As `api.merge_over_model`; +0.0 ranks above -0.0.

    Args:
      values: [B, k_local], descending in each row, this shard's best.

    Returns:
      bool [B, k_local]. All True in a row that holds a NaN on any shard.
    """
    nan = jax.lax.psum(jnp.isnan(values).any(1).astype(jnp.int32), MODEL) > 0
    keys = ordered_bits(values)
    at_least = lambda t: jax.lax.psum((keys >= t[:, None]).sum(1), MODEL)
    threshold = kth_largest(at_least, k, keys.shape[:1])[:, None]
    above, tied = keys > threshold, keys == threshold
    counts = jax.lax.all_gather(jnp.stack([above.sum(1), tied.sum(1)]), MODEL)  # [shards, 2, B]
    earlier = jnp.arange(counts.shape[0])[:, None] < jax.lax.axis_index(MODEL)
    room = k - counts[:, 0].sum(0) - jnp.where(earlier, counts[:, 1], 0).sum(0)
    return above | (tied & (running_count(tied) <= room[:, None])) | nan[:, None]
