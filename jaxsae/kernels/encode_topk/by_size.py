"""Pre-activations that are largest in size, of either sign."""

import jax
import jax.numpy as jnp

from jaxsae.kernels.encode_topk.api import encode_topk


def encode_by_size(
    x: jax.Array, w_enc: jax.Array, b_enc: jax.Array, mask: jax.Array | None, k: int, encoder: str = "auto"
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sizes, descending, whether they are of negative pre-activations, and indices [B, k] of the largest in size.

    The largest of pre and the largest of -pre, each by the fused encoder, which then has no need of another order. One
    latent is in both lists where n is less than 2 k: once with a negative size, which ranks behind all others.

    Args:
      x: [B, d]. w_enc: [n, d]. b_enc: [n]. mask: bool [n], latents that may be chosen; None: all. k: 1 to n.
    """
    bias = lambda sign: sign * b_enc if mask is None else jnp.where(mask, sign * b_enc, -jnp.inf)
    (up, i), (down, j) = (encode_topk(sign * x, w_enc, bias(sign), k, encoder) for sign in (1, -1))
    sizes, at = jax.lax.top_k(jnp.concatenate([up, down], 1), k)
    return sizes, at >= k, jnp.take_along_axis(jnp.concatenate([i, j], 1), at, 1)
