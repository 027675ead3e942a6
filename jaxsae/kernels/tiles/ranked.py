"""A loss of the largest pre-activations among some latents, and its gradients, in one pass over the rows.

    z = ReLU(TopK(W_enc x + b)),   y_g = sum_(i in part g) z_i W_dec,i,   L = sum over rows of objective(y)

A chunk of rows meets all tiles of latents; its pre-activations stand until the chunk's gradients are added up, so that
nothing is computed twice: five products of rows and latents in all. The number of tiles is known on the device alone:
a step pays for the latents that are dead now, and is compiled once.
"""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from jaxsae.kernels.blocks import cut as rows_from
from jaxsae.kernels.blocks import largest_divisor
from jaxsae.kernels.products import product
from jaxsae.kernels.tiles.cut import Cut, counted, over_tiles
from jaxsae.kernels.tiles.tables import Tables
from jaxsae.parallel import MODEL
from jaxsae.platform import target_platform

CPU_ROWS, ROWS = 256, 4096  # of a chunk, at most
CPU_TILE = 2**16  # pre-activations of a chunk and a tile, at least: with fewer, one core does the work
CPU_NUMBERS, NUMBERS = 2**22, 2**27  # pre-activations of a chunk, at most


@flax.struct.dataclass
class Ranked:
    """What a pass gives; sums are over this device's rows.

    Attributes:
      loss: []. y: float32 [B, d_out], over all shards of the latents.
      dw_enc [J, T, d_in], db [J, T], dw_dec [J, T, d_out]: gradients, by place. dshared: of `shared`.
      firings: int32 [J, T], rows on which a latent is above the threshold. active: int32 [], positive latents of this
      shard. smallest: the smallest of them, or inf. 0 and inf where nothing is counted. cost: [], of this shard's latents,
      not in `loss`.
    """

    loss: jax.Array
    y: jax.Array
    dw_enc: jax.Array
    db: jax.Array
    dw_dec: jax.Array
    dshared: Any
    firings: jax.Array
    active: jax.Array
    smallest: jax.Array
    cost: jax.Array


def ranked_pass(
    tables: Tables,
    x: jax.Array,
    rows: Any,
    shared: Any,
    cut: Callable[[jax.Array, jax.Array | int], Cut],
    objective: Callable[[jax.Array, Any, Any], jax.Array],
    parts: int = 1,
    firing: float | None = None,
    whole: bool = False,
    signed: bool = False,
    costs: jax.Array | None = None,
) -> Ranked:
    """The loss of `objective(y [parts, C, d_out], shared, rows)`, a sum over rows, and its gradients.

    Args:
      x: [B, d_in], what W_enc is multiplied with. rows: a tree of [B, ...], handed to the objective.
      cut: (pre [J, C, T], used) -> Cut. whole: it needs all rows at once.
      firing: a latent fires above it; None: nothing is counted.
      signed: latents are ranked by their sizes and keep their signs.
      costs: float32 [J, T], what a unit of each latent costs beside the objective; None: nothing.
    """
    J, T, _ = tables.w_enc.shape
    size = rows_of_a_chunk(len(x), J, T)
    loop = len(x) > size
    zero = lambda *shape: jnp.zeros(shape, jnp.float32)
    sums = {
        "loss": zero(),
        "cost": zero(),
        # Summed as [d, T]: products that contract the first axis of both operands run at half the rate on some CPUs.
        "dw_enc": zero(J, tables.w_enc.shape[2], T),
        "db": zero(J, T),
        "dw_dec": zero(J, tables.w_dec.shape[2], T),
        "dshared": jax.tree.map(jnp.zeros_like, shared),
        "firings": jnp.zeros((J, T), jnp.int32),
        "active": jnp.zeros((), jnp.int32),
        "smallest": jnp.float32(jnp.inf),
    }
    d_out = tables.w_dec.shape[2]
    pre = _pre_activations(tables, x, zero(J, len(x), T)) if whole else zero(J, size, T)
    empty = lambda pre: pre == -jnp.inf  # places without a latent, which is smaller than any
    sizes = lambda pre: jnp.where(empty(pre), pre, jnp.abs(pre)) if signed else pre
    kept = lambda at, pre, first: at.keep(sizes(pre), first) * (jnp.sign(pre) if signed else 1)
    whole_cut = cut(sizes(pre), tables.used) if whole else None

    def chunk(number, state):
        sums, pre, y = state
        start = number * size
        xc, rc, at = rows_from((x, rows, whole_cut), start, size) if loop else (x, rows, whole_cut)
        if whole:
            here = jax.lax.dynamic_slice_in_dim(pre, start, size, 1) if loop else pre
        else:
            here = pre = _pre_activations(tables, xc, pre)
            at = cut(sizes(pre), tables.used)
        reconstruct = lambda j, total: total + _decoded(tables, kept(at, here[j], j * T), j, parts)
        yc = over_tiles(tables.used, reconstruct, zero(parts, size, d_out))
        yc = yc if jax.lax.psum(1, MODEL) == 1 else jax.lax.psum(yc, MODEL)
        loss, (dy, dshared) = jax.value_and_grad(objective, (0, 1))(yc, shared, rc)
        sums = sums | {"loss": sums["loss"] + loss, "dshared": jax.tree.map(jnp.add, sums["dshared"], dshared)}
        turned = xc.T, dy.astype(tables.w_dec.dtype).transpose(0, 2, 1)
        add = lambda j, s: _add_gradients(s, tables, turned, dy, kept(at, here[j], j * T), j, firing, costs)
        sums = over_tiles(tables.used, add, sums)
        y = jax.lax.dynamic_update_slice_in_dim(y, yc.sum(0), start, 0) if loop else yc.sum(0)
        return sums, pre, y

    start = sums, pre, zero(len(x), d_out)
    sums, _, y = jax.lax.fori_loop(0, len(x) // size, chunk, start) if loop else chunk(0, start)
    turned = {f"d{name}": _turned(sums[f"d{name}"], tables.used, getattr(tables, name)) for name in ("w_enc", "w_dec")}
    return Ranked(y=y, **sums | turned)


def _turned(tiles: jax.Array, used: jax.Array | int, over: jax.Array) -> jax.Array:
    """[J, d, T] -> [J, T, d], of the tiles in use, written over `over`, whose other tiles are 0: no array is cleared for it.

    What is cleared is paid for page by page on CPUs: two such arrays were a sixth of AuxK's pass.
    """
    return over_tiles(used, lambda j, out: out.at[j].set(tiles[j].T), over.astype(tiles.dtype))


def rows_of_a_chunk(batch: int, tiles: int, size: int) -> int:
    """A divisor of the batch within the limits for tiles of `size` latents, as large as they allow."""
    on_cpu = target_platform() == "cpu"
    rows, numbers = (max(CPU_ROWS, CPU_TILE // size), CPU_NUMBERS) if on_cpu else (ROWS, NUMBERS)
    return largest_divisor(batch, min(rows, numbers // (tiles * size)))


def _pre_activations(tables: Tables, x: jax.Array, pre: jax.Array) -> jax.Array:
    def tile(j, pre):
        return pre.at[j].set(product(x, tables.w_enc[j], 1, 1) + tables.bias[j])

    return over_tiles(tables.used, tile, pre)


def _decoded(tables: Tables, z: jax.Array, j: jax.Array | int, parts: int) -> jax.Array:
    """float32 [parts, C, d_out]: what a tile's latents add to each part."""
    w = tables.w_dec[j]
    if tables.part is None:
        return jnp.stack([product(z[:, of].astype(w.dtype), w[of], 1, 0) for of in tables.stretches])
    here = [jnp.where(tables.part[j] == g, z, 0).astype(w.dtype) for g in range(parts)]
    return jnp.stack([product(one, w, 1, 0) for one in here])


def _add_gradients(
    sums: dict,
    tables: Tables,
    turned: tuple[jax.Array, jax.Array],
    dy: jax.Array,
    z: jax.Array,
    j: jax.Array | int,
    firing: float | None,
    costs: jax.Array | None,
) -> dict:
    """Adds a tile's gradients, for latents z [C, T] and dL/dy [parts, C, d_out]; `turned`: x and dy as [d, C]."""
    (x, dy_turned), w, parts = turned, tables.w_dec[j], len(dy)
    dy, active = dy.astype(w.dtype), z != 0
    if tables.part is None:
        stretches = list(enumerate(tables.stretches))
        dz = jnp.concatenate([product(dy[g], w[of], 1, 1) for g, of in stretches], 1)
        parts_of_dw = [product(dy_turned[g], z[:, of].astype(w.dtype), 1, 0) for g, of in stretches]
        dw_dec = jnp.concatenate(parts_of_dw, 1)
    else:
        mine = [tables.part[j] == g for g in range(parts)]
        dz = sum(jnp.where(here, product(one, w, 1, 1), 0) for here, one in zip(mine, dy, strict=True))
        of = [
            product(one, jnp.where(here, z, 0).astype(w.dtype), 1, 0) for here, one in zip(mine, dy_turned, strict=True)
        ]
        dw_dec = sum(of)
    if costs is not None:
        dz = dz + costs[j] * jnp.sign(z)
        sums = sums | {"cost": sums["cost"] + (costs[j] * jnp.abs(z)).sum()}
    dz = jnp.where(active, dz, 0)
    add = lambda name, value: sums[name].at[j].add(value)
    if firing is not None:
        sums = sums | {
            "firings": add("firings", (jnp.abs(z) > firing).sum(0, dtype=jnp.int32)),
            "active": sums["active"] + counted(active).sum(),
            "smallest": jnp.minimum(sums["smallest"], jnp.where(active, jnp.abs(z), jnp.inf).min()),
        }
    return sums | {
        "dw_enc": add("dw_enc", product(x, dz.astype(x.dtype), 1, 0)),
        "db": add("db", dz.sum(0)),
        "dw_dec": add("dw_dec", dw_dec),
    }
