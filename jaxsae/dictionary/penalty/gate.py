"""The gate's terms (Rajamanoharan et al., Gated, 2404.16014, equation 8).

    lambda ||ReLU(pi)||_1 + ||x - x_hat_frozen(ReLU(pi))||^2

x_hat_frozen decodes by stop_gradient(W_dec, b_dec): the second term teaches the gate alone.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxsae.dictionary.penalty.base import Penalty, Proportional
from jaxsae.dictionary.selection import Codes, Latent


@dataclasses.dataclass(frozen=True)
class GateL1(Proportional):
    """lambda ||ReLU(pi)||_1; `coefficient` is lambda."""

    def amount(self, codes: Codes, latent: Latent) -> jax.Array:
        return codes.gate.sum()


@dataclasses.dataclass(frozen=True)
class GateReconstruction(Penalty):
    """||x - x_hat_frozen(ReLU(pi))||^2; with `frozen` False the decoder learns by it, too (their ablation)."""

    frozen: bool = True
    has_code: ClassVar[bool] = True

    def code(self, codes: Codes, latent: Latent) -> tuple[jax.Array, jax.Array]:
        return codes.gate, self._fixed(latent["W_dec"])

    def error(self, target: jax.Array, b_dec: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.square(target - self._fixed(b_dec) - y).sum()

    def _fixed(self, array: jax.Array) -> jax.Array:
        return jax.lax.stop_gradient(array) if self.frozen else array
