"""L0, by the gradient that the selection gives to a latent's being active (Rajamanoharan et al., 2407.14435).

lambda E ||f||_0        or, aimed at an L0*:    lambda (E ||f||_0 / L0* - 1)^2        (their appendix, and SAEBench's)
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxsae.dictionary.penalty.base import Proportional, warmth
from jaxsae.dictionary.penalty.steer import Moment
from jaxsae.dictionary.selection import Codes, Latent


@dataclasses.dataclass(frozen=True)
class L0(Proportional):
    """`coefficient` is lambda."""

    def amount(self, codes: Codes, latent: Latent) -> jax.Array:
        return codes.active.sum()


@dataclasses.dataclass(frozen=True)
class L0Target(L0):
    """Nothing where the batch has `target` active latents a row."""

    target: float = 0.0

    def weigh(self, mean: jax.Array, now: Moment) -> jax.Array:
        return self.coefficient * warmth(now.fraction, self.warmup) * jnp.square(mean / self.target - 1)
