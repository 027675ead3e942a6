"""Gated (Rajamanoharan et al., 2404.16014).

    pi = W_enc (x - b_dec) + b_enc                         which latents are active
    f  = 1[pi > 0] ReLU(W_mag (x - b_dec) + b_mag)         how large they are;  W_mag = exp(r_mag) W_enc  (equations 6, 7)

The indicator has no gradient: the gate learns by its own reconstruction (`penalty/gate.py`).
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxsae.dictionary.selection.base import Codes, Elementwise, Latent


@dataclasses.dataclass(frozen=True)
class Gated(Elementwise):
    """Pre-activations choose, their rescaled and shifted selves are the latents."""

    own: ClassVar[tuple[str, ...]] = ("b_mag",)  # `r_mag` has no unit

    def init(self, width: int, d_model: int) -> Latent:
        return {"r_mag": jnp.zeros(width), "b_mag": jnp.zeros(width)}

    def codes(self, latent: Latent, pre: jax.Array) -> Codes:
        return Codes((pre > 0) * self.value(latent, pre), gate=jax.nn.relu(pre))

    def shifted(self, latent: Latent, by: jax.Array) -> Latent:
        return {"b_mag": latent["b_mag"] - jnp.exp(latent["r_mag"]) * by}

    def gate_bias(self, latent: Latent) -> jax.Array:
        return latent["b_enc"]

    def value(self, latent: Latent, pre: jax.Array) -> jax.Array:
        return jax.nn.relu(jnp.exp(latent["r_mag"]) * (pre - latent["b_enc"]) + latent["b_mag"])
