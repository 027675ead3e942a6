"""Top-k of latents that read one part each of a row: layer after layer by the fused encoder, then the best of all."""

import jax
import jax.numpy as jnp

from jaxsae.kernels.by_layer import by_layer, by_layer_of_latents, layers_of
from jaxsae.kernels.encode_topk.api import encode_topk


def encode_by_layer(
    x: jax.Array, w_enc: jax.Array, b_enc: jax.Array, k: int, implementation: str = "auto"
) -> tuple[jax.Array, jax.Array]:
    """As `encode_topk`, of rows x [B, L d], of which latent i of W_enc [n, d] reads part i mod L; with L = 1 it is that.

    Args:
      k: 1 to n. A layer gives its own k best, since the best of all may be of one.
    """
    layers = layers_of(x, w_enc)
    if layers == 1:
        return encode_topk(x, w_enc, b_enc, k, implementation)
    parts, rows, bias = by_layer(x, layers), by_layer_of_latents(w_enc, layers), b_enc.reshape(-1, layers)
    own = min(k, len(rows))
    found = [encode_topk(parts[:, i], rows[:, i], bias[:, i], own, implementation) for i in range(layers)]
    values = jnp.concatenate([v for v, _ in found], 1)
    indices = jnp.concatenate([i * layers + layer for layer, (_, i) in enumerate(found)], 1)
    values = jnp.where(jnp.isnan(values).any(1, keepdims=True), jnp.nan, values)
    best, at = jax.lax.top_k(values, min(k + 1, values.shape[1]))
    # Equals come layer by layer, and are to come by index; what is not above 0 is no latent.
    tied = ((best[:, 1:] == best[:, :-1]) & (best[:, 1:] > 0)).any()
    in_order = lambda: jax.lax.sort((-values, indices), num_keys=2)
    ordered = jax.lax.cond(
        tied,
        lambda: tuple(a[:, :k] for a in in_order()),
        lambda: (-best[:, :k], jnp.take_along_axis(indices, at[:, :k], 1)),
    )
    return -ordered[0], ordered[1]
