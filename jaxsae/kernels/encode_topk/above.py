"""All latents above a threshold, as ReLU and JumpReLU select them, from any of the top-k kernels.

    f_i = z_i H(z_i - theta_i)        (Rajamanoharan et al., JumpReLU, 2407.14435; ReLU: theta = 0)

z_i > theta_i is the same as a positive pre-activation under the bias b_enc - theta, so the threshold is applied before
anything is kept; a list one longer than `k_max` shows whether a row had more.
"""

import jax
import jax.numpy as jnp

from jaxsae.errors import InputError
from jaxsae.kernels.encode_topk.api import encode_topk
from jaxsae.kernels.pairs import all_dots


def encode_above(
    x: jax.Array,
    w_enc: jax.Array,
    b_enc: jax.Array,
    threshold: jax.Array | float,
    k_max: int,
    implementation: str = "auto",
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The latents of each row whose pre-activation exceeds their threshold, farthest above it first.

    Args:
      x: [B, d]. w_enc: [n, d]. b_enc: [n]. threshold: [n] or one for all, finite and of
        the size of pre-activations (what is above it is decided by their difference). k_max: places of a row, 1 to n.
      implementation: as for `encode_topk`.

    Returns:
      values float32 [B, k_max]: pre-activations, 0 in places that are not taken, NaN throughout a row that holds one.
      indices int32 [B, k_max].
      overflow bool [B]: rows with more than `k_max` such latents, of which those farthest above are given.

    Raises:
      InputError: as `encode_topk`, or thresholds of another shape.
    """
    x, w_enc, b_enc = jnp.asarray(x), jnp.asarray(w_enc), jnp.asarray(b_enc, jnp.float32)
    width, threshold = w_enc.shape[0], jnp.asarray(threshold, jnp.float32)
    if threshold.shape not in ((), (width,)):
        raise InputError(f"encode_above takes one threshold or one for each of {width} latents: got {threshold.shape}")
    threshold = jnp.broadcast_to(threshold, (width,))
    longer = k_max + (1 <= k_max < width)  # what is out of range `encode_topk` refuses
    excess, indices = encode_topk(x, w_enc, b_enc - threshold, longer, implementation)
    overflow = excess[:, k_max] > 0 if longer > k_max else jnp.zeros(x.shape[0], bool)
    excess, indices = excess[:, :k_max], indices[:, :k_max]
    # Not excess + threshold, which a threshold far below would round away.
    values = jnp.where(excess > 0, all_dots(x, indices, w_enc) + b_enc[indices], 0)
    return jnp.where(jnp.isnan(excess), jnp.nan, values), indices, overflow
