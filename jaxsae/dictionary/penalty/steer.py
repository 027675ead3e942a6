"""How a penalty's weight is steered so that L0 comes to where it is asked for.

    weight = coefficient (first exp(u) (L0 / L)^p + q log(L0 / L)),    u <- u + g log(L0 / L)  after each step

with log(L0 / L) held between -1 and 1.

An L1 weight says nothing of the L0 that it leads to: that differs between stores, widths and lengths of a run. The
integral u finds the weight, the power p answers to each batch at once and damps what u would swing by. L falls evenly, in
its logarithm, from `start` to the target over a share of the steps, and the weight begins low: latents that a strong penalty
cuts off at once are dead. Where few active latents hold each other up, as under a penalty that saturates, what makes L0 fall
to the target lets it fall on, and no weight of 0 brings it back: there q log(L0 / L) pays for latents while L0 is too low.
"""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class Moment:
    """Where training stands, for what a penalty weighs.

    Attributes:
      fraction: of the steps, done. control: u, where a weight is steered. l0: active latents of the batch a row.
    """

    fraction: jax.Array | float
    control: jax.Array | float = 0.0
    l0: jax.Array | float = 0.0


@dataclasses.dataclass(frozen=True)
class Steer:
    """Towards an L0 of `target`.

    Attributes:
      start: L at the first step. share: of the steps, over which it falls to the target. power: p.
      direct: q. reach: by how much u may change in a whole run, in units of log weight. most: by how much in a step.
      first: what the weight begins with, over its coefficient.
    """

    target: float
    start: float
    share: float = 0.5
    power: float = 1.0
    direct: float = 0.0
    reach: float = 60.0
    most: float = 0.25
    first: float = 0.02

    def factor(self, now: Moment) -> jax.Array:
        off = self._off(now.l0, now.fraction)
        return self.first * jnp.exp(now.control + self.power * off) + self.direct * off

    def after(self, control: jax.Array, l0: jax.Array, fraction: jax.Array, steps: jax.Array) -> jax.Array:
        """u after a step of a run of `steps`."""
        return control + jnp.minimum(self.reach / steps, self.most) * self._off(l0, fraction)

    def _off(self, l0: jax.Array, fraction: jax.Array) -> jax.Array:
        left = jnp.clip(1 - fraction / self.share, 0, 1)
        aimed = jnp.log(self.target) + left * jnp.log(self.start / self.target)
        return jnp.clip(jnp.log(jnp.maximum(l0, 1e-3)) - aimed, -1, 1)
