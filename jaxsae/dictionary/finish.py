"""What follows a step, and what precedes it: how decoder rows are kept at length 1, or left free."""

import dataclasses

import jax.numpy as jnp

from jaxsae.dictionary.parameters import Params
from jaxsae.kernels import row_dots


@dataclasses.dataclass(frozen=True)
class Free:
    """Nothing."""

    unit_decoder: bool = False

    def project_gradient(self, params: Params, gradient: Params) -> Params:
        return gradient

    def after_step(self, params: Params) -> Params:
        return params


@dataclasses.dataclass(frozen=True)
class UnitRows(Free):
    """The gradient's part along a decoder row is removed before a step, the row's length restored after it (2406.04093)."""

    unit_decoder: bool = True

    def project_gradient(self, params: Params, gradient: Params) -> Params:
        along = row_dots(gradient.W_dec, params.W_dec)
        return gradient.put(W_dec=gradient.W_dec - along * params.W_dec)

    def after_step(self, params: Params) -> Params:
        norm = jnp.linalg.norm(params.W_dec, axis=-1, keepdims=True)
        return params.put(W_dec=params.W_dec / jnp.maximum(norm, 1e-30))  # an imported row may be all zeros


@dataclasses.dataclass(frozen=True)
class UnitRowsAndThresholds(UnitRows):
    """Thresholds stay at 0 or above, too: below it negative pre-activations would be latents."""

    def after_step(self, params: Params) -> Params:
        params = super().after_step(params)
        return params.put(threshold=jnp.maximum(params.latent["threshold"], 0))


Finish = Free | UnitRows
