"""Squared error.

||t - x_hat||^2,    x_hat = sum_i z_i W_dec,i + b_dec
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxsae.dictionary.objective.base import Objective


@dataclasses.dataclass(frozen=True)
class SquaredError(Objective):
    """Of whole reconstructions."""

    per_number: bool = True
    parts: ClassVar[int] = 1
    ranks: ClassVar[tuple[int, ...]] = ()
    ends: ClassVar[tuple[int, ...]] = ()

    def __call__(self, target: jax.Array, b_dec: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.square(target - b_dec - y[0]).sum()
