"""What an objective says of itself."""

from typing import Protocol

import jax


class Objective(Protocol):
    """A sum over rows of a function of a row's reconstruction, which may come in parts by latent or by rank.

    Attributes:
      parts: how many the reconstruction comes in. per_number: whether the error is that of one number of a row, or of all.
      ends: latents, ascending, before which each part ends, where that is the same at every step; empty: there is one
        part, or they change. ranks: of a row's latents by size, how many the first part holds, the first two, and so on;
        empty: parts are by latent.
    """

    parts: int
    per_number: bool
    ends: tuple[int, ...]
    ranks: tuple[int, ...]

    def part_of(self, latents: jax.Array, key: jax.Array | None) -> jax.Array | None:
        """The part that latents of the whole dictionary, by number, add to; None: there is one, or parts are by rank.

        Args:
          key: random, of the step; None where none is under way.
        """
        return None

    def __call__(self, target: jax.Array, b_dec: jax.Array, y: jax.Array) -> jax.Array:
        """The error of rows, summed: target [B, d_out], y [parts, B, d_out] without b_dec [d_out] -> []."""
        ...

    def whole(self, y: jax.Array) -> jax.Array:
        """The reconstruction [B, d_out] that the dictionary is to give, from its parts [parts, B, d_out]."""
        return y.sum(0)
