"""The opponent of `penalty/adversary.py`: a TopK dictionary of the decoder's rows, which takes a step at each step of a run.

It stands whole on every device: n / 4 latents of d numbers, with two moments. Each takes the rows that are drawn of its own
latents, and gradients are added up over the shards of the latents.
"""

from collections.abc import Mapping

import flax.struct
import jax
import jax.numpy as jnp

from jaxsae.dictionary.penalty.adversary import Adversary, reconstructed, scaled
from jaxsae.parallel import MODEL

B1, B2, EPSILON = 0.9, 0.999, 6.25e-10


@flax.struct.dataclass
class Opponent:
    """Its weights by name, and Adam's moments."""

    weights: dict[str, jax.Array]
    mu: dict[str, jax.Array]
    nu: dict[str, jax.Array]


def init_opponent(key: jax.Array, adversary: Adversary, d: int) -> Opponent:
    """Decoder rows in random directions, the encoder half their transpose, biases 0."""
    rows = jax.random.normal(key, (adversary.width, d))
    rows = rows / jnp.linalg.norm(rows, axis=-1, keepdims=True)
    zeros = lambda *shape: jnp.zeros(shape)
    weights = {"W_enc": rows / 2, "b_enc": zeros(adversary.width), "W_dec": rows, "b_dec": zeros(d)}
    zero = jax.tree.map(jnp.zeros_like, weights)
    return Opponent(weights, zero, zero)


def opponent_step(
    opponent: Opponent, adversary: Adversary, rows: jax.Array, share: jax.Array, step: jax.Array, steps: jax.Array
) -> tuple[Opponent, jax.Array]:
    """The opponent after a step on decoder rows [R, d], and the share of their variance that it explained before it.

    Args:
      share: of the peak rate, by the run's schedule. step, steps: of the run.
    """
    d = rows.shape[1]
    r = jax.lax.stop_gradient(scaled(rows))

    def loss(weights: Mapping[str, jax.Array]) -> jax.Array:
        return jnp.square(r - reconstructed(weights, r, adversary.k)).mean()

    value, gradient = jax.value_and_grad(loss)(opponent.weights)
    shards = jax.lax.psum(1, MODEL)
    value, gradient = jax.lax.psum((value / shards, jax.tree.map(lambda g: g / shards, gradient)), MODEL)
    mean = jax.lax.psum(r.mean(0), MODEL) / shards
    variance = jax.lax.psum(jnp.square(r - mean).mean(), MODEL) / shards
    # As `rates.swept`, for the opponent's width.
    peak = 7.5e-3 * (64 / d) ** 0.5 * (2048 / adversary.width * 1000 / jnp.maximum(steps, 100)) ** 0.25
    count = step.astype(jnp.float32) + 1
    mu = jax.tree.map(lambda m, g: B1 * m + (1 - B1) * g, opponent.mu, gradient)
    nu = jax.tree.map(lambda v, g: B2 * v + (1 - B2) * g * g, opponent.nu, gradient)
    move = lambda m, v: m / (1 - B1**count) / (jnp.sqrt(v / (1 - B2**count)) + EPSILON)
    weights = jax.tree.map(lambda w, m, v: w - share * peak * move(m, v), opponent.weights, mu, nu)
    length = jnp.linalg.norm(weights["W_dec"], axis=-1, keepdims=True)
    weights["W_dec"] = weights["W_dec"] / jnp.maximum(length, 1e-12)
    return Opponent(weights, mu, nu), 1 - value / variance
