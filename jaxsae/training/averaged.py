"""The averaged weights of a run with `--ema_decay`: what makes them a dictionary of the method.

An average of decoder rows of length 1 is shorter than 1, and latents of averaged weights have other sizes than those
of the last ones: BatchTopK's threshold, taken over the steps, is not theirs. Theirs is measured where a checkpoint
is saved, on the batches before it.
"""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxsae.dictionary import SPECS, Batch, Method, Params, Widths
from jaxsae.parallel import DATA, put_rows, shardings
from jaxsae.training.routes import report_of
from jaxsae.training.setup import Setup
from jaxsae.training.state import TrainState, average_factor
from jaxsae.training.step import in_trainer_units


def threshold_of_average(setup: Setup, state: TrainState, step: int) -> float | None:
    """BatchTopK's threshold for the averaged weights after `step` steps, in the trainer's units.

    The mean over the last batches of the smallest activation that a batch keeps (2412.06410, eq. 6).

    Returns:
      None where the method has no threshold, or weights are not averaged.
    """
    steps = setup.config.calibration_steps
    if not steps:
        return None
    smallest = _smallest(setup.method, setup.widths, setup.config.batch_size, setup.config.compute_dtype, setup.mesh)
    factor = average_factor(state, setup.config.ema_decay)
    found = []
    for index in range(max(0, step - steps), step):
        x = put_rows(setup.batches[index], setup.mesh)
        found.append(float(smallest(state.average, factor, x, state.mean, state.scale)))
    return sum(found) / len(found)


@lru_cache(8)
def _smallest(method: Method, widths: Widths, rows: int, dtype: str, mesh: Mesh):
    """The compiled function (average, factor, x [rows, numbers], mean, scale) -> the smallest activation of the batch."""
    device = partial(_device_smallest, method=method, widths=widths, rows=rows, dtype=dtype)
    specs = (SPECS, P(), P(DATA, None), P(), P())
    sharded = jax.shard_map(device, mesh=mesh, in_specs=specs, out_specs=P(), check_vma=False)
    return jax.jit(sharded, in_shardings=shardings(mesh, specs), out_shardings=shardings(mesh, P()))


def _device_smallest(
    average: Params,
    factor: jax.Array,
    x: jax.Array,
    mean: jax.Array,
    scale: jax.Array,
    *,
    method: Method,
    widths: Widths,
    rows: int,
    dtype: str,
) -> jax.Array:
    """The weights are factor times `average`, a copy that is not made: W_enc and b_enc scale all activations alike."""
    dead = jnp.zeros(average.b_enc.shape, bool)
    batch = Batch.of(in_trainer_units(x, mean, scale, dtype), widths, dead=dead, rows=rows)
    scaled = average.put(b_dec=factor * average.b_dec)
    return factor * report_of(method, scaled, batch).smallest
