"""What an objective says of itself."""

from typing import Protocol

import jax


class Objective(Protocol):
    """A sum over rows of a function of a row's reconstruction, which may come in parts by latent.

    Attributes:
      parts: how many the reconstruction comes in. ends: latents, ascending, before which each part ends; empty: there is
        one part. per_number: whether the error is that of one number of a row, or of all.
    """

    parts: int
    per_number: bool
    ends: tuple[int, ...]

    def part_of(self, latents: jax.Array) -> jax.Array | None:
        """The part that latents of the whole dictionary, by number, add to; None: there is one."""
        ...

    def __call__(self, target: jax.Array, b_dec: jax.Array, y: jax.Array) -> jax.Array:
        """The error of rows, summed: target [B, d_out], y [parts, B, d_out] without b_dec [d_out] -> []."""
        ...
