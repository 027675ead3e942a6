"""What a penalty on latents says of itself."""

import dataclasses
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp

from jaxsae.dictionary.penalty.steer import Moment, Steer
from jaxsae.dictionary.selection import Codes, Latent


class Penalty(Protocol):
    """A term made of a sum over rows and latents, or of a reconstruction by another code than the latents."""

    has_code: ClassVar[bool] = False  # whether it has a code of its own

    def amount(self, codes: Codes, latent: Latent) -> jax.Array:
        """Its sum over the rows and latents of a tile: []."""
        return jnp.zeros(())

    def weigh(self, mean: jax.Array, now: Moment) -> jax.Array:
        """The term of the loss, from the batch's mean amount a row."""
        return jnp.zeros(())

    def code(self, codes: Codes, latent: Latent) -> tuple[jax.Array, jax.Array]:
        """A second code [C, T] and the decoder rows [T, d_out] that it goes through."""
        raise NotImplementedError

    def error(self, target: jax.Array, b_dec: jax.Array, y: jax.Array) -> jax.Array:
        """The error of its reconstruction y [B, d_out], without b_dec, summed over rows."""
        return jnp.zeros(())


@dataclasses.dataclass(frozen=True)
class Proportional(Penalty):
    """In proportion to its amount: `coefficient` times it, which rises over a share `warmup` of the steps.

    Attributes:
      steer: what else the weight is multiplied by, so that L0 comes to where it is asked for; None: nothing.
    """

    coefficient: float
    warmup: float
    steer: Steer | None = None

    def weigh(self, mean: jax.Array, now: Moment) -> jax.Array:
        factor = self.steer.factor(now) if self.steer else 1.0
        return factor * self.coefficient * warmth(now.fraction, self.warmup) * mean


def warmth(step_fraction: jax.Array | float, warmup: float) -> jax.Array:
    """A weight's share after `step_fraction` of the steps, where it rises from 0 over a share `warmup` of them."""
    return jnp.clip(step_fraction / max(warmup, 1e-9), 0, 1)
