"""JumpReLU (Rajamanoharan et al., 2407.14435).

    f = z H(z - theta),    z = W_enc x + b_enc,    a threshold theta for each latent

Neither f nor H has a gradient in theta; with rect(u) = 1 where |u| < 1/2 and a window eps, theirs are taken to be

    df/dtheta = -(theta / eps) rect((z - theta) / eps),    dH/dtheta = -(1 / eps) rect((z - theta) / eps)
    df/dz = H(z - theta),                                  dH/dz = 0

(equations 11 and 12 there): expectations over z of these are the derivatives of the expected loss, for small eps.
"""

import dataclasses
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxsae.dictionary.selection.base import Codes, Elementwise, Latent


@dataclasses.dataclass(frozen=True)
class JumpReLU(Elementwise):
    """Pre-activations above their latent's threshold, which starts at `start`; `bandwidth` is eps."""

    bandwidth: float
    start: float
    own: ClassVar[tuple[str, ...]] = ("threshold",)

    def init(self, width: int, d_model: int) -> Latent:
        return {"threshold": jnp.full(width, self.start, jnp.float32)}

    def codes(self, latent: Latent, pre: jax.Array) -> Codes:
        theta = latent["threshold"]
        return Codes(jump(pre, theta, self.bandwidth), active=step(pre, theta, self.bandwidth))

    def gate_bias(self, latent: Latent) -> jax.Array:
        return latent["b_enc"] - latent["threshold"]

    def value(self, latent: Latent, pre: jax.Array) -> jax.Array:
        return pre


def _above(z: jax.Array, theta: jax.Array) -> jax.Array:
    return (z > theta).astype(z.dtype)


def _rect(z: jax.Array, theta: jax.Array, eps: float) -> jax.Array:
    return (jnp.abs(z - theta) < eps / 2).astype(z.dtype)


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def jump(z: jax.Array, theta: jax.Array, eps: float) -> jax.Array:
    """f = z H(z - theta): [C, T], [T] -> [C, T]."""
    return z * _above(z, theta)


@jump.defjvp
def _jump_slope(eps, primals, tangents):
    (z, theta), (dz, dtheta) = primals, tangents
    return jump(z, theta, eps), _above(z, theta) * dz - theta / eps * _rect(z, theta, eps) * dtheta


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def step(z: jax.Array, theta: jax.Array, eps: float) -> jax.Array:
    """H(z - theta): [C, T], [T] -> [C, T] of 0 and 1."""
    return _above(z, theta)


@step.defjvp
def _step_slope(eps, primals, tangents):
    (z, theta), (_, dtheta) = primals, tangents
    return step(z, theta, eps), -1 / eps * _rect(z, theta, eps) * dtheta
