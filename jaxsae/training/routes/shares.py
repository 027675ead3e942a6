"""What all routes share: a batch's error, in the scale of its objective, and what is said of it."""

import jax
import jax.numpy as jnp

from jaxsae.dictionary import Batch, Method, Report
from jaxsae.parallel import AXES, MODEL, sum_over_data


def error_of(
    method: Method, batch: Batch, target: jax.Array, base: jax.Array, y: jax.Array, slope: jax.Array | None
) -> jax.Array:
    """These rows' part of the objective of a batch: target [B, d_out], what is written without any latent, [d_out] or
    [B, d_out], y [parts, B, d_out] -> [].

    Args:
      slope: [B, d_out], as `Batch.slope` has it: its gradient is added, and nothing to the value.
    """
    numbers = target.shape[1] if method.objective.per_number else 1
    value = method.objective(target, base, y) / (batch.rows * numbers)
    value = value if batch.own == 1 else batch.own * value
    if slope is None:
        return value
    more = (slope * (base + method.objective.whole(y))).sum()
    return value + more - jax.lax.stop_gradient(more)


def parts_of(method: Method, width: int, key: jax.Array | None, indices: jax.Array | None = None) -> jax.Array | None:
    """The part of the reconstruction that latents of this shard add to: int32 of the shape of `indices`, or [n_local].

    Args:
      key: random, of the step.
    """
    here = jnp.arange(width) if indices is None else indices
    return method.objective.part_of(here + jax.lax.axis_index(MODEL) * width, key)


def frequent(excess: jax.Array, sizes: jax.Array, rows: int) -> tuple[jax.Array, jax.Array]:
    """The penalty on frequent latents of this shard, to be differentiated, and the same of all shards, to be reported.

    Args:
      excess: what a unit of each entry of `sizes` costs, of the same shape or one that broadcasts.
    """
    term = (excess * sizes).sum() / rows
    return term, jax.lax.stop_gradient(jax.lax.psum(term, MODEL))


def report(
    batch: Batch, residual: jax.Array, active: jax.Array, aux: jax.Array, firings: jax.Array, smallest: jax.Array
) -> Report:
    """Of residuals [B, d_out]; `active` of this device, `aux` of its rows, `firings` of the whole batch.

    Args:
      smallest: the smallest positive latent on this device, inf where there is none.
    """
    smallest = jax.lax.pmin(smallest, AXES)
    return jax.lax.stop_gradient(
        Report(
            sum_over_data(jnp.square(residual).sum()),
            sum_over_data(jnp.square(batch.wanted).sum()),
            active=jax.lax.psum(active, AXES),
            aux=sum_over_data(aux),
            firings=firings,
            smallest=jnp.where(jnp.isfinite(smallest), smallest, 0.0),
        )
    )
