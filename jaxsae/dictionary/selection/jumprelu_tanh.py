"""JumpReLU as Anthropic has it (Circuits Updates, January 2025).

    f = h H(h - exp(t)),    h = W_enc x + b_enc,    a logarithm t of the threshold for each latent

    df/dh = H(h - exp(t)),    df/dt = -(exp(t) / eps) rect((h - exp(t)) / eps)

The penalty is a function of f (`penalty/tanh.py`), so that these gradients reach all parameters, not thresholds alone.
"""

import dataclasses
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxsae.dictionary.selection.base import Codes, Latent
from jaxsae.dictionary.selection.jumprelu import JumpReLU


@dataclasses.dataclass(frozen=True)
class JumpReLUTanh(JumpReLU):
    """Pre-activations above exp(t), which starts at `start`; `bandwidth` is eps."""

    own: ClassVar[tuple[str, ...]] = ("log_threshold",)

    def init(self, width: int, d_model: int) -> Latent:
        return {"log_threshold": jnp.full(width, jnp.log(self.start), jnp.float32)}

    def codes(self, latent: Latent, pre: jax.Array) -> Codes:
        t = latent["log_threshold"]
        return Codes(_jump(pre, t, self.bandwidth), short=jax.nn.relu(jnp.exp(t) - pre))

    def scaled(self, latent: Latent, factor: jax.Array | float) -> Latent:
        return {"log_threshold": latent["log_threshold"] + jnp.log(factor)}

    def gate_bias(self, latent: Latent) -> jax.Array:
        return latent["b_enc"] - jnp.exp(latent["log_threshold"])


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _jump(h: jax.Array, t: jax.Array, eps: float) -> jax.Array:
    return h * (h > jnp.exp(t))


@_jump.defjvp
def _slope(eps, primals, tangents):
    (h, t), (dh, dt) = primals, tangents
    theta = jnp.exp(t)
    window = (jnp.abs(h - theta) < eps / 2).astype(h.dtype)
    return _jump(h, t, eps), (h > theta) * dh - theta / eps * window * dt
