"""What a selection says of itself."""

from typing import ClassVar, Protocol

import flax.struct
import jax

Latent = dict[str, jax.Array]  # arrays with a row for each latent, of all latents or of a tile


@flax.struct.dataclass
class Codes:
    """What an elementwise selection makes of pre-activations [C, T].

    Attributes:
      z: float32 [C, T], the latents. active: 1 where a latent is active, else 0, with the gradient that the selection
        gives it; gate: a second code, of which a penalty makes a reconstruction; short: by how much a pre-activation is
        below its threshold, else 0. None: there is none.
    """

    z: jax.Array
    active: jax.Array | None = None
    gate: jax.Array | None = None
    short: jax.Array | None = None


class Selection(Protocol):
    """What rankings and elementwise selections have in common.

    Attributes:
      own: arrays by latent that it adds, in the units of latents.
    """

    own: ClassVar[tuple[str, ...]] = ()

    def init(self, width: int, d_model: int) -> Latent:
        """Its arrays before the first step."""
        return {}

    def scaled(self, latent: Latent, factor: jax.Array | float) -> Latent:
        """Its arrays where latents are `factor` times as large: a number, or one for each latent."""
        return {name: latent[name] * factor for name in self.own}

    def shifted(self, latent: Latent, by: jax.Array) -> Latent:
        """Its arrays where W_enc x is larger by [n], and b_enc is less by as much: those that b_enc does not stand for."""
        return {}


class Elementwise(Selection, Protocol):
    """Each latent by its own pre-activation."""

    def codes(self, latent: Latent, pre: jax.Array) -> Codes:
        """Latents of pre-activations float32 [C, T] = W_enc x + b_enc; differentiable, with its straight-through terms."""
        ...

    def gate_bias(self, latent: Latent) -> jax.Array:
        """[T]: the b_enc with which a latent is active where its pre-activation is above 0."""
        ...

    def value(self, latent: Latent, pre: jax.Array) -> jax.Array:
        """The size of active latents, from their pre-activations; `latent` has a row for each."""
        ...
