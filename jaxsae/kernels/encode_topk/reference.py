"""The dense reference: all pre-activations at once. For tests and small sizes alone."""

import jax
import jax.numpy as jnp

from jaxsae.kernels.products import products


def encode_topk(x: jax.Array, w_enc: jax.Array, b_enc: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """Values and indices [B, k] of the k largest of x W_enc^T + b_enc, ties by lowest index.

    Args:
      x: [B, d]. w_enc: [n, d]. b_enc: [n]. k: at most n.

    Returns:
      values [B, k], descending (all NaN in a row that has a NaN pre-activation), and indices int32 [B, k].
    """
    pre = products(x, w_enc) + b_enc
    values, indices = jax.lax.top_k(pre, k)
    return jnp.where(jnp.isnan(pre).any(-1, keepdims=True), jnp.nan, values), indices
