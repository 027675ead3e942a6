"""What a selection says of itself that ranks pre-activations."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp

from jaxsae.dictionary.selection.base import Selection
from jaxsae.kernels import Request
from jaxsae.kernels.tiles import Cut


@dataclasses.dataclass(frozen=True)
class Anneal:
    """Active latents of a row that fall evenly from `start` to k over the first `share` of the steps."""

    start: int
    share: float

    def k_at(self, fraction: jax.Array | float, k: int) -> jax.Array:
        """int32: how many there are after `fraction` of the steps."""
        left = jnp.clip(1 - fraction / self.share, 0, 1)
        return jnp.ceil(k + (self.start - k) * left).astype(jnp.int32)


class Ranking(Selection, Protocol):
    """Keeps the largest pre-activations, then ReLU; the gradient is that of the pre-activations that are kept.

    Attributes:
      k: active latents of a row, on average where the whole batch is ranked. anneal: while they are more, or None.
    """

    k: int
    anneal: Anneal | None
    whole_batch: ClassVar[bool]  # whether what a row keeps depends on the other rows
    signed: ClassVar[bool] = False  # whether pre-activations are ranked by their sizes, and latents keep their signs

    def request(self, rows: int) -> Request:
        """What is selected of a batch of `rows` rows over all devices, as lists of pairs."""
        ...

    def cut(self, rows: int, fraction: jax.Array | float) -> Callable[[jax.Array, jax.Array | int], Cut]:
        """The same of tiles of pre-activations (their sizes, where `signed`), as `kernels.tiles.ranked_pass` takes it,
        after `fraction` of the steps."""
        ...

    def k_at(self, fraction: jax.Array | float) -> jax.Array | int:
        """Active latents of a row after `fraction` of the steps."""
        return self.anneal.k_at(fraction, self.k) if self.anneal else self.k
