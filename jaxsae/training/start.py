"""How a run starts: the length of the encoder, and biases where the rows are not centred.

The encoder starts as the decoder's transpose times one number. In an overcomplete dictionary the k best projections of
a row overlap: at unit length their sum overshoots, twice and more, and Adam, whose steps are as long as the rate,
spends the run walking back. With y(x) the reconstruction of a unit-length start, and b_dec the mean of the rows, the
encoder is multiplied by the c for which c y(x) is nearest to x:

    c = argmin_c E ||x - c y(x)||^2 = E <x, y(x)> / E ||y(x)||^2

The selection does not depend on c, since latents are positively homogeneous while biases are 0. Gao et al. (2406.04093)
divide, in their code, by the mean length of the reconstructions of random unit vectors: the same idea for rows that
know no direction, and what is done here where the rows give no number.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import lru_cache, partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxsae.dictionary import SPECS, Batch, Method, Params, shifted
from jaxsae.dictionary.selection import Selection
from jaxsae.kernels.by_layer import as_read, by_layer_of_latents, layer_of, layers_of, widened
from jaxsae.parallel import DATA, put_rows, rows_at_once, shardings, sum_over_data
from jaxsae.store import select
from jaxsae.training.routes import reconstruction

ROWS, PIECES = 4096, 16  # that the start is fitted to; stretches of the store that they come from
FEWEST = 64  # rows below which they say too little
BITS = 8  # of the scale that are kept: the order in which a mesh adds up does not show in them


@dataclasses.dataclass(frozen=True)
class Start:
    """What was fitted.

    Attributes:
      scale: of the encoder's rows, over the decoder's. by: how it was found.
      fvu: of the rows that it was fitted to; None where it was not fitted to rows. of: what is scaled.
    """

    scale: float
    by: str = "as --start_scale says"
    fvu: float | None = None
    of: str = "its decoder's transpose"

    def __str__(self) -> str:
        known = "" if self.fvu is None else f", whose FVU is {self.fvu:.3f} before the first step"
        return f"the encoder starts as {self.of} times {self.scale:.4g}, {self.by}{known}"


def sample(read: Callable[[list[tuple[int, int]]], np.ndarray], ranges: list[tuple[int, int]]) -> np.ndarray:
    """float32 [at most ROWS, d]: finite rows out of `ranges`, in stretches that are spread evenly over them; `read` gives
    those of stretches."""
    total = sum(stop - start for start, stop in ranges)
    each = -(-min(ROWS, total) // PIECES)
    bounds = [total * i // PIECES for i in range(PIECES + 1)]
    stretches = [r for low, high in pairwise(bounds) for r in select(ranges, low, min(low + each, high))]
    rows = read(stretches).astype(np.float32)
    return rows[np.isfinite(rows).all(1)]


def fit_start(params: Params, x: np.ndarray, method: Method, mesh: Mesh, batch_size: int, seed: int) -> Start:
    """The scale of the encoder's rows.

    Args:
      params: those of a start whose encoder is its decoder's transpose, sharded over `mesh`; biases 0.
      x: [rows, d], centred and scaled. batch_size: rows that go through at once.
      seed: of the random vectors that stand in for rows which give no scale.
    """
    scale, used, fvu = _fit(params, x, x, method, mesh, batch_size) if len(x) >= FEWEST else (None, 0, 1.0)
    if scale is not None:
        return Start(scale, f"fitted to {used:,} rows", max(fvu, 0.0))
    why = "the rows of the store are all equal" if used else f"there are {len(x)} finite rows, fewer than {FEWEST}"
    unit = np.random.default_rng(seed).normal(size=(max(256, mesh.shape[DATA]), x.shape[1])).astype(np.float32)
    unit *= x.shape[1] ** 0.5 / np.linalg.norm(unit, axis=1, keepdims=True)  # as rows in the trainer's units
    scale = _fit(params, unit, unit, method, mesh, batch_size)[0]
    return Start(scale or 1.0, f"fitted to random unit vectors: {why}")


def by_linear_map(
    params: Params, x: np.ndarray, target: np.ndarray, method: Method, mesh: Mesh, batch_size: int
) -> tuple[Params, float | None]:
    """A transcoder's decoder where each latent is chosen by itself: each row is what the best linear map of x to `target`
    makes of the encoder's row, all of one length, which brings reconstructions nearest; of a cross-layer transcoder at the
    latent's own layer alone. And the FVU of that.

    Under a decoder of 0 neither encoder nor thresholds have a gradient, while penalties shrink latents from the first step;
    a ranking keeps its k. (None, and the parameters as they are: rows say too little.)

    Args:
      x: [rows, d_in]. target: [rows, d_out], both centred and scaled. batch_size: rows that go through at once.
    """
    layers = layers_of(x, params.W_enc)
    if len(x) < max(FEWEST, 2 * x.shape[1] // layers):
        return params, None
    sides = [np.split(np.float64(rows), layers, 1) for rows in (x, target)]
    maps = [np.linalg.lstsq(*pair)[0].astype(np.float32) for pair in zip(*sides, strict=True)]
    params = _mapped(params, np.stack(maps))
    scale, _, fvu = _fit(params, x, target, method, mesh, batch_size)
    return params.put(W_dec=(scale or 0.0) * params.W_dec), fvu


@jax.jit
def _mapped(params: Params, linear: jax.Array) -> Params:
    """Decoder rows of length 1, what linear [layers, d, d_out of a layer] makes of encoder rows, each at its own layer."""
    rows, layers = by_layer_of_latents(params.W_enc, len(linear)), len(linear)
    rows = jnp.einsum("nld,ldo->nlo", rows, linear, precision=jax.lax.Precision.HIGHEST)
    rows = rows / jnp.maximum(jnp.linalg.norm(rows, axis=-1, keepdims=True), 1e-30)
    rows = rows.reshape(len(params.W_enc), -1)
    return params.put(W_dec=widened(rows, layer_of(jnp.arange(len(rows)), layers), layers))


def _fit(
    params: Params, x: np.ndarray, target: np.ndarray, method: Method, mesh: Mesh, batch_size: int
) -> tuple[float | None, int, float]:
    """c to BITS bits, None where it is not a positive number; how many rows it is of; min_c E ||t - c y||^2 / E ||t||^2."""
    size, alike = rows_at_once(len(x), batch_size, mesh), target is x
    products = _products(method, size, mesh)
    # c and FVU do not depend on the rows' magnitude; squares of 1e-20 or 1e20 would not be float32. A power of two is exact.
    # Thresholds have a magnitude: theirs is that of rows in the trainer's units.
    x = x if method.selection.own else np.ldexp(x, -np.frexp(np.abs(x).max())[1])
    target = x if alike else target
    sums, used = np.zeros(3), len(x) - len(x) % size
    for first in range(0, used, size):
        part = slice(first, first + size)
        rows = put_rows(x[part], mesh)
        wanted = rows if alike else put_rows(target[part], mesh)
        sums += np.asarray(products(params, rows, wanted), np.float64)
    along, length, squares = sums
    if not (np.isfinite(sums).all() and along > 0 and length > 0):
        return None, used, 1.0
    mantissa, exponent = math.frexp(along / length)
    return math.ldexp(round(mantissa * 2**BITS), exponent - BITS), used, 1 - along / length * along / squares


@lru_cache(8)
def _products(method: Method, rows: int, mesh: Mesh):
    """The compiled function (params, x [rows, d_in], t [rows, d_out]) -> sums of <t, y>, ||y||^2, ||t||^2."""

    def device(params: Params, x: jax.Array, t: jax.Array) -> jax.Array:
        batch = Batch(x=x, dead=jnp.zeros(params.b_enc.shape, bool), rows=rows)
        y = reconstruction(method, params, batch)
        return sum_over_data(jnp.stack([(t * y).sum(), jnp.square(y).sum(), jnp.square(t).sum()]))

    specs = (SPECS, P(DATA, None), P(DATA, None))
    sharded = jax.shard_map(device, mesh=mesh, in_specs=specs, out_specs=P(), check_vma=False)
    return jax.jit(sharded, in_shardings=shardings(mesh, specs), out_shardings=shardings(mesh, P()))


@partial(jax.jit, donate_argnums=0, static_argnames=("pre_bias", "selection"))
def started(
    params: Params, scale: jax.Array, mean: jax.Array, written: jax.Array, pre_bias: bool, selection: Selection
) -> Params:
    """The parameters of a start, in place: the encoder scaled, b_dec the mean `written` [d_out] of what is reconstructed,
    as the trainer sees it.

    Where b_dec is not subtracted from the input (`pre_bias`), b_enc subtracts the mean [d_in] of that: -W_enc mean. What a
    selection has in the units of latents is scaled with them.
    """
    scaled = selection.scaled(params.latent, scale)
    params = params.put(W_enc=params.W_enc * scale, b_dec=params.b_dec + written, **scaled)
    return params if pre_bias else shifted(params, (params.W_enc * as_read(mean, params.W_enc)).sum(-1), selection)
