"""Log-probabilities of a vocabulary that is split over `model`."""

import jax
import jax.numpy as jnp

from jaxsae.parallel import MODEL, copy_to_model, sum_over_model


def log_shares(logits: jax.Array, there: jax.Array) -> jax.Array:
    """Log-softmax [..., v] over the shards of a vocabulary; 0 where there is no token."""
    low = jax.lax.stop_gradient(jnp.where(there, logits, -jnp.inf))
    top = jax.lax.stop_gradient(jax.lax.pmax(low.max(-1, keepdims=True), MODEL))
    known = jnp.where(there, logits, 0) - top
    total = sum_over_model(jnp.where(there, jnp.exp(known), 0).sum(-1, keepdims=True))
    return jnp.where(there, known - copy_to_model(jnp.log(total)), 0)
