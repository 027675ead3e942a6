"""Nested prefixes (Bussmann et al., Matryoshka, 2503.17547).

    1/|M| sum_(m in M) ||t - b_dec - sum_(i < m) z_i W_dec,i||^2

The mean over the prefixes M, so that the auxiliary loss beside it weighs what it weighs beside a plain squared error.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxsae.dictionary.objective.base import Objective


@dataclasses.dataclass(frozen=True)
class NestedPrefixes(Objective):
    """Of the reconstructions by the first latents alone, for each of `prefixes`, ascending, the last of which is all.

    Attributes:
      random: whether all but the last are drawn anew at each step, their logarithms even from the first prefix to the last.
    """

    prefixes: tuple[int, ...]
    random: bool = False
    per_number: ClassVar[bool] = True
    ranks: ClassVar[tuple[int, ...]] = ()

    @property
    def parts(self) -> int:
        return len(self.prefixes)

    @property
    def ends(self) -> tuple[int, ...]:
        return () if self.random else self.prefixes

    def part_of(self, latents: jax.Array, key: jax.Array | None) -> jax.Array:
        prefixes = jnp.asarray(self.prefixes)
        if self.random and key is not None:
            low, high = jnp.log(prefixes[0] + 0.0), jnp.log(prefixes[-1] + 0.0)
            drawn = jnp.exp(jax.random.uniform(key, (self.parts - 1,), minval=low, maxval=high))
            prefixes = prefixes.at[:-1].set(jnp.sort(drawn).astype(prefixes.dtype))
        return jnp.searchsorted(prefixes, latents, side="right").astype(jnp.int32)

    def __call__(self, target: jax.Array, b_dec: jax.Array, y: jax.Array) -> jax.Array:
        nested = jnp.cumsum(y, 0)
        return jnp.square(target - b_dec - nested).sum() / self.parts
