"""Adam and its cheaper relatives as optax transformations, and the learning rate's schedule.

Every transformation is elementwise or by row, so it runs on a shard of the latents as on the whole.
"""

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxsae.dictionary import SKIP, Params, is_by_latent
from jaxsae.dictionary.rates import SWEPT, Rates
from jaxsae.training.config import OptimizerConfig

BYTES_PER_PARAMETER = {"adam": 8, "adam_bf16": 4, "adam_factored": 4, "sign": 0}  # of W_enc and W_dec


class Moments(NamedTuple):
    """First and second moments, each a `Params`; the second of matrices is [n, 1] where it is factored."""

    mu: Params
    nu: Params
    count: jax.Array


@flax.struct.dataclass
class Schedule:
    """The rate at a step: linear rise, constant, linear fall that reaches 0 after the last step.

    Attributes:
      peak: float32. warmup, decay: int32, steps of the rise and of the fall, at least 1. steps: int32, of the run.
      first_steps: int32, of the run as it was begun.
    """

    peak: jax.Array
    warmup: jax.Array
    decay: jax.Array
    steps: jax.Array
    first_steps: jax.Array

    def __call__(self, step: jax.Array) -> jax.Array:
        """The rate of the step after `step` steps."""
        rise = (step + 1) / self.warmup
        fall = (self.steps - step) / self.decay
        return self.peak * jnp.clip(jnp.minimum(rise, fall), 0, 1)

    def progress(self, step: jax.Array) -> jax.Array:
        """Share of the steps that the run was begun with that are done after `step`; of those beyond, 1."""
        return jnp.minimum(step.astype(jnp.float32) / self.first_steps, 1)


def schedule(config: OptimizerConfig, peak: float, steps: int, first_steps: int | None = None) -> Schedule:
    """The schedule that flags come to: the rise is a share of `first_steps` (default: `steps`), the fall of `steps`."""
    first = first_steps or steps
    warmup = max(round(config.warmup_fraction * first), 1)
    return Schedule(np.float32(peak), *map(np.int32, (warmup, _decay(config, steps), steps, first)))


def steps_before_fall(config: OptimizerConfig, steps: int) -> int:
    """Steps whose rate does not depend on how many come after them: of a run of `steps`, those before the fall begins.

    All of them where it has no fall (--decay_fraction=0).
    """
    decay = _decay(config, steps)
    return steps - decay if decay > 1 else steps


def _decay(config: OptimizerConfig, steps: int) -> int:
    return max(round(config.decay_fraction * steps), 1)


def peak_rate(config: OptimizerConfig, method_default: float, width: int) -> float:
    """The peak rate that flags and defaults come to; sign updates take sparsify's 5e-3 at 16,384 latents."""
    if config.learning_rate is not None:
        return config.learning_rate
    return 5e-3 / (width / 2**14) ** 0.5 if config.optimizer == "sign" else method_default


def decoder_rate(config: OptimizerConfig, default: float) -> float:
    """Rate of the decoder's rows over that of all else, that flags and the method's `default` come to."""
    # The rate of "sign" is sparsify's, found for all weights alike.
    return config.decoder_rate or (1.0 if config.optimizer == "sign" else default)


def skip_rate(config: OptimizerConfig) -> float:
    """Rate of W_skip over that of all else."""
    return config.skip_rate or 1.0


def make_optimizer(config: OptimizerConfig, seed: int, rates: Rates = SWEPT) -> optax.GradientTransformation:
    """The gradient -> a direction to be multiplied by minus the rate; W_dec's is longer by the decoder's rate.

    `rates`: what holds where no flag says another.

    References: Kingma & Ba (1412.6980); Shazeer & Stern (1804.04235) for the factored second moment.
    """
    if config.optimizer == "sign":
        sign = lambda gradient, state, params=None, **_: (jax.tree.map(jnp.sign, gradient), state)
        chosen = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), sign)
    else:
        dtype = jnp.bfloat16 if config.optimizer == "adam_bf16" else jnp.float32
        b1 = rates.b1 if config.b1 is None else config.b1
        chosen = _adam(config, b1, dtype, config.optimizer == "adam_factored", seed)
    factor, past = decoder_rate(config, rates.decoder), skip_rate(config)

    def update(gradient: Params, state, params=None, **rows):
        direction, state = chosen.update(gradient, state, params, **rows)
        skip = {SKIP: past * direction.shared[SKIP]} if SKIP in direction.shared else {}
        return direction.put(W_dec=factor * direction.W_dec, **skip), state

    return optax.GradientTransformationExtraArgs(chosen.init, update)


def _adam(config: OptimizerConfig, b1: float, dtype, factored: bool, seed: int) -> optax.GradientTransformation:
    def second(g: jax.Array) -> jax.Array:
        return jnp.square(g).mean(-1, keepdims=True) if factored and g.ndim == 2 else jnp.square(g)

    def init(params: Params) -> Moments:
        mu = jax.tree.map(lambda p: jnp.zeros(p.shape, dtype), params)
        nu = jax.tree.map(lambda p: jnp.zeros(jax.eval_shape(second, p).shape, dtype), params)
        return Moments(mu, nu, jnp.zeros((), jnp.int32))

    def update(gradient: Params, state: Moments, params=None, *, first_row: int | jax.Array = 0):
        count = state.count + 1
        mu = jax.tree.map(lambda m, g: b1 * m.astype(g.dtype) + (1 - b1) * g, state.mu, gradient)
        nu = jax.tree.map(lambda v, g: config.b2 * v.astype(g.dtype) + (1 - config.b2) * second(g), state.nu, gradient)
        mu_scale, nu_scale = 1 / (1 - b1**count), 1 / (1 - config.b2**count)
        direction = jax.tree.map(lambda m, v: m * mu_scale / (jnp.sqrt(v * nu_scale) + config.epsilon), mu, nu)
        if dtype == jnp.bfloat16:
            mu = round_randomly(mu, seed, 2 * count, first_row)
            nu = round_randomly(nu, seed, 2 * count + 1, first_row)
        return direction, Moments(mu, nu, count)

    return optax.GradientTransformationExtraArgs(init, update)


def round_randomly(tree: Params, seed: int, step: jax.Array, first_row: int | jax.Array = 0) -> Params:
    """float32 -> bfloat16, up or down with odds that make the mean right; keyed by (seed, step, leaf, place).

    Rounding to nearest would lose every change below 1 part in 256, and a second moment with decay 0.999
    changes by 1 part in 1,000. `first_row` is the first latent's number over all shards, so that neither a
    mesh nor a block of rows changes the outcome.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    rounded = []
    for number, (path, leaf) in enumerate(leaves):
        salt = (seed * 0x3C6EF372 + number * 0x51ED270B) % 2**32
        first = jnp.asarray(first_row if is_by_latent(path) else 0).astype(jnp.uint32)
        rounded.append(_round(leaf, _hash(_places(leaf.shape, first), step, salt)))
    return jax.tree.unflatten(structure, rounded)


def _places(shape: tuple[int, ...], first_row: jax.Array) -> jax.Array:
    """uint32: the number of each place, counted in row-major order from row 0, modulo 2^32."""
    place, stride = jnp.zeros(shape, jnp.uint32), 1
    for axis in reversed(range(len(shape))):
        place += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride % 2**32)
        stride *= shape[axis] if axis else 1
    return place + first_row * jnp.uint32(stride % 2**32)


def _hash(place: jax.Array, step: jax.Array, salt: int) -> jax.Array:
    """A counter through murmur3's finaliser: 32 bits that look random."""
    h = place * jnp.uint32(0x9E3779B1) + (step.astype(jnp.uint32) * jnp.uint32(0x85EBCA77) + jnp.uint32(salt))
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h = (h ^ (h >> shift)) * jnp.uint32(factor)
    return h ^ (h >> 16)


def _round(x: jax.Array, noise: jax.Array) -> jax.Array:
    """Adds 16 random bits below bfloat16's last, then cuts there; NaN and infinities stay."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    moved = jnp.where(jnp.isfinite(x), bits + (noise & jnp.uint32(0xFFFF)), bits) & jnp.uint32(0xFFFF0000)
    return jax.lax.bitcast_convert_type(moved, jnp.float32).astype(jnp.bfloat16)
