"""Latents of a finished dictionary, rescaled and shifted (Rajamanoharan et al., 2404.16014, section 5.3).

    f = 1[pi > 0] ReLU(exp(r_mag) (pi - b_enc) + b_mag),    pi = W_enc x + b_enc

What is active stays, how large it is is learned anew: an L1 penalty has made latents too small. Without a shift b_mag is
exp(r_mag) b_enc, and f = exp(r_mag) ReLU(pi).
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxsae.dictionary.selection.base import Latent
from jaxsae.dictionary.selection.gated import Gated


@dataclasses.dataclass(frozen=True)
class Rescaled(Gated):
    """Gated's latents, of which r_mag and, with `shift`, b_mag alone are learned."""

    shift: bool = True
    own: ClassVar[tuple[str, ...]] = ("b_mag",)

    def init(self, width: int, d_model: int) -> Latent:
        return {"r_mag": jnp.zeros(width), "b_mag": jnp.zeros(width)}

    def value(self, latent: Latent, pre: jax.Array) -> jax.Array:
        if self.shift:
            return super().value(latent, pre)
        return jax.nn.relu(jnp.exp(latent["r_mag"]) * pre)
