"""One training step: the program of one device, and that program over the mesh."""

import dataclasses
from collections.abc import Callable
from functools import partial

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxsae.dictionary import Batch, Method, Params
from jaxsae.parallel import DATA, MODEL, shardings, sum_over_data
from jaxsae.training.state import TrainState, state_specs
from jaxsae.training.update import UpdateRule, Weights

SINCE_LIMIT = 2**30


@flax.struct.dataclass
class StepMetrics:
    """What a step says of itself: scalars, equal on every device.

    Attributes:
      loss: whole loss of the batch. fvu: squared error over squared norm of centred inputs. l0: active latents a row.
      aux: auxiliary or penalty term. dead: latents without firing in `dead_tokens` rows.
      learning_rate: of this step. finite: False where the batch or the loss held NaN or Inf and was left out.
    """

    loss: jax.Array
    fvu: jax.Array
    l0: jax.Array
    aux: jax.Array
    dead: jax.Array
    learning_rate: jax.Array
    finite: jax.Array


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """What a step needs to know besides the method and the optimiser."""

    batch_size: int
    steps: int
    dead_tokens: int
    compute_dtype: str = "float32"
    ema_decay: float = 0.0
    clip_norm: float | None = None
    lazy_rows: bool = False
    aux: bool = True


def make_step(
    method: Method,
    optimizer: optax.GradientTransformation,
    rate: Callable[[jax.Array], jax.Array],
    config: StepConfig,
    abstract: TrainState,
    mesh: Mesh,
):
    """The jitted step (state, x [batch_size, d]) -> (state, StepMetrics); the state is donated.

    `x` holds activations as the store has them; rows lie over `data`.
    """
    specs = state_specs(abstract)
    update = UpdateRule(method, optimizer, config.clip_norm, config.ema_decay, config.lazy_rows)
    device = partial(_device_step, method=method, update=update, rate=rate, config=config)
    sharded = jax.shard_map(device, mesh=mesh, in_specs=(specs, P(DATA, None)), out_specs=(specs, P()), check_vma=False)
    places, rows = shardings(mesh, specs), shardings(mesh, P(DATA, None))
    return jax.jit(sharded, in_shardings=(places, rows), out_shardings=(places, shardings(mesh, P())), donate_argnums=0)


def _device_step(state: TrainState, x: jax.Array, *, method, update: UpdateRule, rate, config: StepConfig):
    y = ((x.astype(jnp.float32) - state.mean) * state.scale).astype(config.compute_dtype)
    dead = state.since_fired > config.dead_tokens
    dead_count = jax.lax.psum(dead.sum(), MODEL)
    fraction = state.step.astype(jnp.float32) / config.steps
    batch = Batch(x=y, dead=dead, rows=config.batch_size, step_fraction=fraction)
    (loss, report), gradient = _gradient(method, config, state.params, batch, dead_count)
    loss = sum_over_data(loss)
    finite = jnp.isfinite(loss)
    learning_rate = rate(state.step)
    # A batch that is not finite changes nothing but the count of steps: the state stays one that can be saved.
    weights = update(Weights(state.params, state.moments, state.average), gradient, learning_rate, finite)
    since_fired = jnp.minimum(jnp.where(report.fired, 0, state.since_fired + config.batch_size), SINCE_LIMIT)
    new = state.replace(
        step=state.step + 1,
        params=weights.params,
        moments=weights.moments,
        average=weights.average,
        since_fired=jnp.where(finite, since_fired, state.since_fired),
        threshold=jnp.where(finite, _threshold(state, report.smallest), state.threshold),
        skipped=state.skipped + ~finite,
    )
    metrics = StepMetrics(
        loss=loss,
        fvu=report.squared_error / report.squared_norm,
        l0=report.active / config.batch_size,
        aux=report.aux,
        dead=dead_count,
        learning_rate=learning_rate,
        finite=finite,
    )
    return new, metrics


def _gradient(method: Method, config: StepConfig, params: Params, batch: Batch, dead_count: jax.Array):
    """((loss, Report), gradient); the auxiliary loss is computed, and paid for, only while latents are dead."""

    def gradient(use_aux: bool):
        loss = lambda p: method.loss(p, batch, use_aux=use_aux)
        return jax.value_and_grad(loss, has_aux=True)(params)

    if not config.aux:
        return gradient(False)
    return jax.lax.cond(dead_count > 0, partial(gradient, True), partial(gradient, False))


def _threshold(state: TrainState, smallest: jax.Array) -> jax.Array:
    """Moving average of decay 0.999 (2412.06410), shorter at first, so that a short run's is of its end too."""
    taken = (state.step - state.skipped).astype(jnp.float32)
    decay = jnp.minimum(0.999, taken / (taken + 10))
    return decay * state.threshold + (1 - decay) * smallest
