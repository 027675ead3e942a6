"""L1 of what latents add (Anthropic, Circuits Updates, April 2024).

    lambda E sum_i f_i ||W_dec,i||

Decoder rows are free to grow, since the penalty weighs them. Of several sites l it weighs sum_l ||W_dec,i^l|| (Sparse
Crosscoders, Anthropic, October 2024).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxsae.dictionary.penalty.base import Proportional
from jaxsae.dictionary.selection import Codes, Latent


@dataclasses.dataclass(frozen=True)
class L1OfNorms(Proportional):
    """`coefficient` is lambda; `sites` are the numbers of each, where there are several."""

    sites: tuple[int, ...] = ()

    def amount(self, codes: Codes, latent: Latent) -> jax.Array:
        return (codes.z.sum(0) * norms(latent, self.sites)).sum()


def norms(latent: Latent, sites: tuple[int, ...] = ()) -> jax.Array:
    """float32 [T]: lengths of decoder rows, of several sites summed, with a gradient for a row of zeros too."""
    parts = jnp.split(latent["W_dec"], np.cumsum(sites)[:-1], -1) if sites else [latent["W_dec"]]
    return sum(jnp.sqrt(jnp.square(part).sum(-1) + 1e-30) for part in parts)
