"""Several numbers of active latents at once: Multi-TopK and HierarchicalTopK.

    sum_j w_j ||t - b_dec - x_j||^2,    x_j = sum of z_i W_dec,i over the j largest latents of a row

Multi-TopK (Gao et al., 2406.04093, A.3): j = k and 4 k with weights 1 and 1/8, so that k latents are chosen with an eye to
what comes after them. HierarchicalTopK (2505.24473): the mean over j, so that one dictionary serves every number of
latents up to the last; over all of them by a few, each with the weight of those that it stands for.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxsae.dictionary.objective.base import Objective


@dataclasses.dataclass(frozen=True)
class ByRank(Objective):
    """Of the reconstructions by the `ranks` largest latents of a row, ascending, with `weights`.

    Attributes:
      kept: how many of the parts the dictionary's own reconstruction is made of.
    """

    ranks: tuple[int, ...]
    weights: tuple[float, ...]
    kept: int
    per_number: ClassVar[bool] = True
    ends: ClassVar[tuple[int, ...]] = ()

    @property
    def parts(self) -> int:
        return len(self.ranks)

    def __call__(self, target: jax.Array, b_dec: jax.Array, y: jax.Array) -> jax.Array:
        errors = jnp.square(target - b_dec - jnp.cumsum(y, 0)).sum((1, 2))
        return (jnp.asarray(self.weights) * errors).sum()

    def whole(self, y: jax.Array) -> jax.Array:
        return y[: self.kept].sum(0)
