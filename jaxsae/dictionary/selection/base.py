"""What a selection says of itself."""

from collections.abc import Callable
from typing import ClassVar, Protocol

import flax.struct
import jax

from jaxsae.kernels import Request
from jaxsae.kernels.tiles import Cut

Latent = dict[str, jax.Array]  # arrays with a row for each latent, of all latents or of a tile


@flax.struct.dataclass
class Codes:
    """What an elementwise selection makes of pre-activations [C, T].

    Attributes:
      z: float32 [C, T], the latents. active: 1 where a latent is active, else 0, with the gradient that the selection
        gives it; gate: a second code, of which a penalty makes a reconstruction. None: there is none.
    """

    z: jax.Array
    active: jax.Array | None = None
    gate: jax.Array | None = None


class Ranking(Protocol):
    """Keeps the largest pre-activations, then ReLU; the gradient is that of the pre-activations that are kept."""

    own: ClassVar[tuple[str, ...]] = ()
    whole_batch: ClassVar[bool]  # whether what a row keeps depends on the other rows

    def init(self, width: int, d_model: int) -> Latent:
        """Its arrays before the first step: none."""
        return {}

    def request(self, rows: int) -> Request:
        """What is selected of a batch of `rows` rows over all devices, as lists of pairs."""
        ...

    def cut(self, rows: int) -> Callable[[jax.Array, jax.Array | int], Cut]:
        """The same of tiles of pre-activations, as `kernels.tiles.ranked_pass` takes it."""
        ...


class Elementwise(Protocol):
    """Each latent by its own pre-activation."""

    own: ClassVar[tuple[str, ...]]  # arrays by latent that it adds, in the units of latents

    def init(self, width: int, d_model: int) -> Latent:
        """Its arrays before the first step."""
        ...

    def codes(self, latent: Latent, pre: jax.Array) -> Codes:
        """Latents of pre-activations float32 [C, T] = W_enc x + b_enc; differentiable, with its straight-through terms."""
        ...

    def gate_bias(self, latent: Latent) -> jax.Array:
        """[T]: the b_enc with which a latent is active where its pre-activation is above 0."""
        ...

    def value(self, latent: Latent, pre: jax.Array) -> jax.Array:
        """The size of active latents, from their pre-activations; `latent` has a row for each."""
        ...
