"""ReLU.

z = ReLU(pre)
"""

import dataclasses

import jax

from jaxsae.dictionary.selection.base import Codes, Elementwise, Latent


@dataclasses.dataclass(frozen=True)
class ReLU(Elementwise):
    """All positive pre-activations; how many there are is what training finds out."""

    def codes(self, latent: Latent, pre: jax.Array) -> Codes:
        return Codes(jax.nn.relu(pre))

    def gate_bias(self, latent: Latent) -> jax.Array:
        return latent["b_enc"]

    def value(self, latent: Latent, pre: jax.Array) -> jax.Array:
        return pre
