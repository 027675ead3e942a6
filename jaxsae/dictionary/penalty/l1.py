"""L1 of what latents add (Anthropic, Circuits Updates, April 2024).

    lambda E sum_i f_i ||W_dec,i||

Decoder rows are free to grow, since the penalty weighs them.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxsae.dictionary.penalty.base import Proportional
from jaxsae.dictionary.selection import Codes, Latent


@dataclasses.dataclass(frozen=True)
class L1OfNorms(Proportional):
    """`coefficient` is lambda."""

    def amount(self, codes: Codes, latent: Latent) -> jax.Array:
        return (codes.z.sum(0) * norms(latent)).sum()


def norms(latent: Latent) -> jax.Array:
    """float32 [T]: lengths of decoder rows, with a gradient for a row of zeros too."""
    return jnp.sqrt(jnp.square(latent["W_dec"]).sum(-1) + 1e-30)
