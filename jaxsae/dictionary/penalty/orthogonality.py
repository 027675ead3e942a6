"""Orthogonality of latents (OrtSAE, 2509.22033).

    gamma mean_i max_(j != i) cos(W_dec,i, W_dec,j)^2

over the latents of a random chunk, so that the cost does not grow with the square of the width. Latents that stand for one
thing in two ways, as absorption and composition make them, lie close to each other.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxsae.dictionary.penalty.rows import RowPenalty


@dataclasses.dataclass(frozen=True)
class Orthogonality(RowPenalty):
    """`weight` is gamma, `sample` the latents of a chunk."""

    weight: float
    sample: int

    def term(self, rows: jax.Array, often: jax.Array | None = None, opponent: Any = None) -> jax.Array:
        unit = rows / jnp.maximum(jnp.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
        cosines = jnp.matmul(unit, unit.T, precision=jax.lax.Precision.HIGHEST)
        squares = jnp.square(jnp.where(jnp.eye(len(rows), dtype=bool), 0, cosines))
        return self.weight * squares.max(1).mean()
