"""The terms of Anthropic's JumpReLU (Circuits Updates, January 2025).

    lambda_S sum_i tanh(c f_i ||W_dec,i||) + lambda_P sum_i ReLU(theta_i - h_i) ||W_dec,i||

The first is nearly a count of what is active; its gradient reaches all parameters. The second, of pre-activations h, gives
latents that never fire a gradient. Of several sites ||W_dec,i|| is the sum of the lengths at each.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxsae.dictionary.penalty.base import Proportional
from jaxsae.dictionary.penalty.l1 import norms
from jaxsae.dictionary.selection import Codes, Latent


@dataclasses.dataclass(frozen=True)
class TanhOfNorms(Proportional):
    """`coefficient` is lambda_S, which rises over `warmup`; `scale` is c."""

    scale: float = 4.0
    sites: tuple[int, ...] = ()

    def amount(self, codes: Codes, latent: Latent) -> jax.Array:
        return jnp.tanh(self.scale * codes.z * norms(latent, self.sites)).sum()


@dataclasses.dataclass(frozen=True)
class PreActivations(Proportional):
    """`coefficient` is lambda_P."""

    sites: tuple[int, ...] = ()

    def amount(self, codes: Codes, latent: Latent) -> jax.Array:
        return (codes.short.sum(0) * norms(latent, self.sites)).sum()
