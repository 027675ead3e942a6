"""A penalty on latents that fire often (Gemma Scope 2: those that fire on more than 10% of the rows).

    lambda sum_i max(0, p_i / p* - 1) ||W_dec,i|| E |z_i|

p_i is the share of the rows on which latent i fires, a moving average that has no gradient; rarer latents pay nothing. Any
selection will do: the term is linear in what a latent is.
"""

import dataclasses

import jax
import jax.numpy as jnp

DECAY = 0.99  # of the moving average, a step


@dataclasses.dataclass(frozen=True)
class Frequency:
    """`weight` is lambda, `limit` p*."""

    weight: float
    limit: float = 0.1

    def excess(self, frequency: jax.Array, w_dec: jax.Array) -> jax.Array:
        """float32 [n]: what a unit of each latent in a row costs, from frequencies [n] and decoder rows [n, d_out]."""
        return self.weight * jax.nn.relu(frequency / self.limit - 1) * jnp.linalg.norm(w_dec, axis=-1)


def averaged(frequency: jax.Array, firings: jax.Array, rows: int) -> jax.Array:
    """The moving average of frequencies [n] after a batch of `rows` rows, on `firings` [n] of which each latent fired."""
    return DECAY * frequency + (1 - DECAY) * firings / rows


def beside_average(frequency: jax.Array, mean: jax.Array) -> jax.Array:
    """float32, from 0 to 1: how often latents fire over the average one of all, at most 1; 0 while nothing has fired."""
    return jnp.minimum(frequency / jnp.maximum(mean, 1e-30), 1)
