"""Sparse encode and decode of one device's latents, with gradients that touch selected pairs alone.

    z = ReLU(TopK(W_enc (x - b_pre) + b_enc)),    y = sum_i z_i W_dec,i        (Gao et al., 2406.04093)

For g = dL/dz on the pairs with z > 0, the gradients are segment sums over pairs (row, latent):

    dW_enc,i = sum_b g_bi (x_b - b_pre),  db_enc,i = sum_b g_bi,  db_pre = -db_enc W_enc,
    dW_dec,i = sum_b z_bi dL/dy_b,        g_bi = <dL/dy_b, W_dec,i>.

Both take several selections at once (the best latents; the best dead ones), whose gradients go into one
buffer: a step holds one gradient, not one for each. Gradients of weights are those of the whole batch.
Where the batch is split over `data`, the shards exchange rows and pairs, B (d + 2k) numbers, rather than
gradients of n_local d numbers, whenever that is less: what travels then does not grow with the width.
"""

from functools import partial

import flax.struct
import jax
import jax.numpy as jnp

from jaxsae.kernels import hopper_pairs, pairs
from jaxsae.kernels.by_layer import each_layer, layers_of
from jaxsae.kernels.grouped import PairList
from jaxsae.kernels.select import Request, Selected, select
from jaxsae.parallel import DATA, MODEL
from jaxsae.platform import full_precision


def latent_sum(values: jax.Array, indices: jax.Array, width: int) -> jax.Array:
    """Sum of [B, k] values by latent: float32 [width]."""
    zero = jnp.zeros(width, jnp.float32)
    return zero.at[indices.reshape(-1)].add(values.reshape(-1), mode="promise_in_bounds")


def firings(selected: Selected, width: int, threshold: float) -> jax.Array:
    """int32 [width]: rows of the whole batch in which each of this shard's latents is larger than `threshold`."""
    above, (indices,) = jnp.abs(selected.values) > threshold, of_whole_batch(selected.indices)
    (above,) = of_whole_batch(above)
    zero = jnp.zeros(width, jnp.int32)
    return zero.at[indices.reshape(-1)].add(above.reshape(-1), mode="promise_in_bounds")


def of_whole_batch(*arrays: jax.Array) -> list[jax.Array]:
    """Arrays by row, the rows of all `data` shards joined."""
    if jax.lax.psum(1, DATA) == 1:
        return list(arrays)
    return [jax.lax.all_gather(a, DATA, axis=0, tiled=True) for a in arrays]


def rows_travel(lists: list[tuple[int, int]], width: int, d: int, shards: int) -> bool:
    """Whether `data` shards that exchange rows and pairs of [B, k] lists move less than with gradients [width, d]."""
    return shards == 1 or sum(batch * shards * (d + 2 * k) for batch, k in lists) <= width * d


def _weight_gradient(parts: list[tuple[jax.Array, jax.Array, jax.Array]], width: int) -> tuple[jax.Array, jax.Array]:
    """The whole batch's sums over all parts (values, indices, rows): of values * rows [width, d], of values [width]."""
    d, shards = parts[0][2].shape[1], jax.lax.psum(1, DATA)
    exchange_rows = rows_travel([v.shape for v, _, _ in parts], width, d, shards)
    if exchange_rows:
        parts = [of_whole_batch(*part) for part in parts]
    if hopper_pairs.runs_here(d):
        total, sums = hopper_pairs.outer_sums(parts, width)
    else:
        total, sums = pairs.zeros(width, d, parts[0][0]), jnp.zeros(width, jnp.float32)
        for values, indices, rows in parts:
            total = pairs.segment_outer(total, values, indices, rows)
            sums = sums + latent_sum(values, indices, width)
    return (total, sums) if exchange_rows or shards == 1 else jax.lax.psum((total, sums), DATA)


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def encode(
    x: jax.Array,
    b_pre: jax.Array,
    w_enc: jax.Array,
    b_enc: jax.Array,
    among: tuple[jax.Array | None, ...],
    requests: tuple[Request, ...],
) -> tuple[Selected, ...]:
    """This shard's part of each selection that is asked for.

    Args:
      x: [B, d], the same on every `model` shard; it gets no gradient. b_pre: [d], subtracted from it.
      w_enc: [n_local, d]. b_enc: [n_local]. Of rows x [B, L d] latent i reads part i mod L, and b_pre gets no gradient.
      among: for each request a bool [n_local], the latents that it may choose, or None: all.
      requests: what to select.
    """
    centred, w = x - b_pre.astype(x.dtype), w_enc.astype(x.dtype)
    return tuple(select(centred, w, b_enc, mask, r) for mask, r in zip(among, requests, strict=True))


def _encode_forward(x, b_pre, w_enc, b_enc, among, requests):
    selected = encode(x, b_pre, w_enc, b_enc, among, requests)
    return selected, (x, b_pre, w_enc, selected)


def _encode_backward(requests, saved, cotangents):
    x, b_pre, w_enc, selected = saved
    centred = x - b_pre.astype(x.dtype)
    g = [jnp.where(s.values != 0, ct.values, 0) for s, ct in zip(selected, cotangents, strict=True)]
    lists = zip(g, selected, strict=True)
    parts = [part for values, s in lists for part in each_layer(values, s.indices, centred, w_enc)]
    dw, db = _weight_gradient(parts, w_enc.shape[0])
    if layers_of(x, w_enc) > 1:
        return jnp.zeros_like(x), jnp.zeros_like(b_pre), dw, db, None
    db_pre = -jax.lax.psum(jnp.matmul(db, w_enc, precision=full_precision(w_enc.dtype)), MODEL)
    return jnp.zeros_like(x), db_pre, dw, db, None


encode.defvjp(_encode_forward, _encode_backward)


@jax.custom_vjp
def decode(selected: tuple[Selected, ...], w_dec: jax.Array) -> tuple[jax.Array, ...]:
    """sum_i z_i W_dec,i for each selection, over all shards: float32 [parts, B, d_out] each. w_dec: [n_local, d_out]."""
    return tuple(jax.lax.psum(s.decoded(w_dec), MODEL) for s in selected)


def _decode_backward(saved, dys):
    selected, w_dec = saved
    dz = [s.products(dy, w_dec) for dy, s in zip(dys, selected, strict=True)]
    parts = [part for dy, s in zip(dys, selected, strict=True) for part in s.by_part(dy)]
    none = lambda a: None if a is None else jnp.zeros(a.shape, jax.dtypes.float0)
    cotangents = tuple(
        s.replace(values=z, indices=none(s.indices), part=none(s.part)) for z, s in zip(dz, selected, strict=True)
    )
    return cotangents, _weight_gradient(parts, w_dec.shape[0])[0]


decode.defvjp(lambda s, w: (decode(s, w), (s, w)), _decode_backward)


@flax.struct.dataclass
class Taps:
    """Zeros added to what a step selects and decodes: to differentiate by them instead of by the weights.

    Their gradients, with the pairs themselves, are all that the weights' gradients are made of
    (`grouped.group`); those of the weights, of no use then, are left out of the compiled program.

    Attributes:
      values: [B, k] for each selection. rows: [parts, B, d_out] for each.
    """

    values: tuple[jax.Array, ...]
    rows: tuple[jax.Array, ...]


def zero_taps(rows: int, d_out: int, width: int, requests: tuple[Request, ...], parts: tuple[int, ...]) -> Taps:
    """Taps for so many rows and `width` latents on this shard; `parts` of each selection's reconstruction."""
    lists = tuple(jnp.zeros((rows, min(r.k, width)), jnp.float32) for r in requests)
    return Taps(lists, tuple(jnp.zeros((count, rows, d_out), jnp.float32) for count in parts))


def tap(selected: tuple[Selected, ...], taps: Taps | None) -> tuple[Selected, ...]:
    """The selections, with taps on their values."""
    if taps is None:
        return selected
    return tuple(s.replace(values=s.values + t) for s, t in zip(selected, taps.values, strict=True))


def tap_rows(decoded: tuple[jax.Array, ...], taps: Taps | None) -> tuple[jax.Array, ...]:
    """The decoded rows, with taps."""
    return decoded if taps is None else tuple(y + t for y, t in zip(decoded, taps.rows, strict=True))


def pair_lists(selected: tuple[Selected, ...], slopes: Taps, x: jax.Array) -> list[PairList]:
    """The whole batch's pairs, from this device's selections, the gradients of their taps, and encoder inputs x."""
    lists = []
    for one, slope, dy in zip(selected, slopes.values, slopes.rows, strict=True):
        slope = jnp.where(one.values != 0, slope, 0)
        indices, values, slope, rows = of_whole_batch(one.indices, one.values, slope, x)
        dy = jnp.stack([of_whole_batch(part)[0] for part in dy])
        part = None if one.part is None else of_whole_batch(one.part)[0]
        lists.append(PairList(indices, values, slope, rows, dy, part))
    return lists
