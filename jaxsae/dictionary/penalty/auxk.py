"""AuxK (Gao et al., 2406.04093, equation 5 and appendix A.2): dead latents model what is left.

    alpha ||e - e_hat||^2 / ||e||^2,    e = stop_gradient(x - x_hat),    e_hat = sum of the k_aux best dead latents

The gradient reaches the encoder; the residual has none; what is not finite counts as 0.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp


def half_of(d_model: int, width: int) -> int:
    """The power of two nearest d/2 (2406.04093, A.2), at most all latents."""
    return min(width, 2 ** max(0, round(math.log2(d_model / 2))))


@dataclasses.dataclass(frozen=True)
class AuxK:
    """`k` dead latents of a row, weighed by `coefficient`, alpha; None: the power of two nearest d/2, at most `most`.

    Where far more latents share a residual than are to reconstruct a row, each learns to be a small part of it, and is too
    small to be chosen ever after.
    """

    coefficient: float
    width: int
    most: int
    k: int | None = None

    def k_of(self, d_model: int) -> int:
        """Dead latents of a row, at most all latents."""
        return self.k or min(self.most, half_of(d_model, self.width))

    def loss(self, residual: jax.Array, y: jax.Array, squared_error: jax.Array) -> jax.Array:
        """Of residuals e and their reconstructions [B, d]; squared_error: ||e||^2 of the whole batch."""
        left = jnp.square(residual - y).sum()
        share = self.coefficient * left / jnp.maximum(squared_error, 1e-30)
        return jnp.nan_to_num(share, posinf=0.0, neginf=0.0)
