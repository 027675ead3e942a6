"""Sparse encode and decode of one device's latents, with gradients that touch selected pairs alone.

    z = ReLU(TopK(W_enc (x - b_pre) + b_enc)),    y = sum_i z_i W_dec,i        (Gao et al., 2406.04093)

For g = dL/dz on the pairs with z > 0, the gradients are segment sums over pairs (row, latent):

    dW_enc,i = sum_b g_bi (x_b - b_pre),  db_enc,i = sum_b g_bi,  db_pre = -db_enc W_enc,
    dW_dec,i = sum_b z_bi dL/dy_b,        g_bi = <dL/dy_b, W_dec,i>.

Gradients of weights are those of the whole batch. Where the batch is split over `data`, the shards exchange
rows and pairs, B (d + 2k) numbers, rather than gradients of n_local d numbers, whenever that is less: what
travels then does not grow with the width.
"""

from functools import partial

import jax
import jax.numpy as jnp

from jaxsae.kernels import pairs
from jaxsae.kernels.encode_topk import encode_topk, merge_over_batch, merge_over_model
from jaxsae.parallel import DATA, MODEL


def pair_capacity(batch: int, k: int) -> int | None:
    """Places of a shard's flat list of pairs: half again as many as its even share. None: one shard has all."""
    shards = jax.lax.psum(1, MODEL)
    return None if shards == 1 else min(batch * k, -(-3 * batch * k // (2 * shards)) + 1024)


def latent_sum(values: jax.Array, indices: jax.Array, width: int) -> jax.Array:
    """Sum of [B, k] values by latent: float32 [width]."""
    zero = jnp.zeros(width, jnp.float32)
    return zero.at[indices.reshape(-1)].add(values.reshape(-1), mode="promise_in_bounds")


def fired(values: jax.Array, indices: jax.Array, width: int, threshold: float) -> jax.Array:
    """bool [width]: the latents with a value above `threshold` in some row of this device's batch."""
    above = (values > threshold).reshape(-1)
    return jnp.zeros(width, bool).at[indices.reshape(-1)].max(above, mode="promise_in_bounds")


def _table_sum(values: jax.Array, indices: jax.Array, table: jax.Array) -> jax.Array:
    """`pairs.gather_sum` in the layout that is cheaper."""
    batch, k = values.shape
    capacity = pair_capacity(batch, k)

    def flat():
        v, rows, latents = pairs.flatten(values, indices, capacity)
        return _scatter_rows(v, rows, latents, table, batch)

    return pairs.with_capacity(values, capacity, flat, lambda: pairs.gather_sum(values, indices, table))


def _scatter_rows(v: jax.Array, rows: jax.Array, latents: jax.Array, table: jax.Array, batch: int) -> jax.Array:
    """y[rows[p]] += v[p] table[latents[p]] over flat pairs: float32 [batch, d]."""
    return _flat_scan(batch, table.shape[1], (v, rows, latents), lambda v, r, i: (r, v[:, None] * table[i]))


def _flat_scan(width: int, d: int, flat: tuple[jax.Array, ...], pair_rows) -> jax.Array:
    """Sums the rows that `pair_rows(*chunk)` gives at the places that it gives, chunk by chunk of flat pairs."""
    count = flat[0].shape[0]
    size = max(1, min(count, pairs.CHUNK_NUMBERS // d))
    padding = -count % size
    padded = (jnp.pad(a, (0, padding)).reshape(-1, size) for a in flat)

    def chunk(total, part):
        at, rows = pair_rows(*part)
        return total.at[at].add(rows.astype(jnp.float32), mode="promise_in_bounds"), None

    return jax.lax.scan(chunk, jnp.zeros((width, d), jnp.float32), tuple(padded))[0]


def _weight_gradient(values: jax.Array, indices: jax.Array, rows: jax.Array, width: int):
    """The whole batch's segment sum of values * rows, float32 [width, d], and of values, [width]."""
    shards, (batch, k), d = jax.lax.psum(1, DATA), values.shape, rows.shape[1]
    exchange_rows = batch * shards * (d + 2 * k) <= width * d
    if shards > 1 and exchange_rows:
        gather = lambda a: jax.lax.all_gather(a, DATA, axis=0, tiled=True)
        values, indices, rows = gather(values), gather(indices), gather(rows)
    sums = _segment_outer(values, indices, rows, width), latent_sum(values, indices, width)
    return sums if shards == 1 or exchange_rows else jax.lax.psum(sums, DATA)


def _segment_outer(values: jax.Array, indices: jax.Array, rows: jax.Array, width: int) -> jax.Array:
    """`pairs.segment_outer` in the layout that is cheaper."""
    capacity = pair_capacity(*values.shape)

    def flat():
        parts = pairs.flatten(values, indices, capacity)
        return _flat_scan(width, rows.shape[1], parts, lambda v, r, i: (i, v[:, None] * rows[r]))

    return pairs.with_capacity(values, capacity, flat, lambda: pairs.segment_outer(values, indices, rows, width))


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def encode(
    x: jax.Array, b_pre: jax.Array, w_enc: jax.Array, b_enc: jax.Array, k: int, batch_total: int | None = None
) -> tuple[jax.Array, jax.Array]:
    """This shard's part of the k best latents of each row, or of the batch's best, after ReLU.

    Args:
      x: [B, d], the same on every `model` shard; it gets no gradient. b_pre: [d], subtracted from it.
      w_enc: [n_local, d]. b_enc: [n_local]; -inf leaves a latent out.
      k: how many latents a row keeps over all shards; with `batch_total` the most that a row may keep on a shard.
      batch_total: how many (row, latent) pairs the whole batch keeps (BatchTopK); None: k in each row.

    Returns:
      values float32 [B, min(k, n_local)], 0 where the entry is not among the best or is negative, NaN
      where the row's pre-activations hold a NaN; local indices int32 of the same shape.
    """
    centred = x - b_pre.astype(x.dtype)
    values, indices = encode_topk(centred, w_enc.astype(x.dtype), b_enc, min(k, w_enc.shape[0]))
    keep = merge_over_model(values, k) if batch_total is None else merge_over_batch(values, batch_total)
    return jnp.where(keep, jnp.maximum(values, 0), 0), indices


def _encode_forward(x, b_pre, w_enc, b_enc, k, batch_total):
    values, indices = encode(x, b_pre, w_enc, b_enc, k, batch_total)
    return (values, indices), (x, b_pre, w_enc, values, indices)


def _encode_backward(k, batch_total, saved, cotangents):
    x, b_pre, w_enc, values, indices = saved
    g = jnp.where(values > 0, cotangents[0], 0)
    dw, db = _weight_gradient(g, indices, x - b_pre.astype(x.dtype), w_enc.shape[0])
    db_pre = -jax.lax.psum(db @ w_enc, MODEL)
    return jnp.zeros_like(x), db_pre, dw, db


encode.defvjp(_encode_forward, _encode_backward)


@jax.custom_vjp
def decode(values: jax.Array, indices: jax.Array, w_dec: jax.Array) -> jax.Array:
    """sum_i z_i W_dec,i over this shard's latents and, by psum, over all shards: float32 [B, d].

    Args:
      values, indices: [B, k_local], as from `encode`. w_dec: [n_local, d].
    """
    return jax.lax.psum(_table_sum(values, indices, w_dec), MODEL)


def _decode_backward(saved, dy):
    values, indices, w_dec = saved
    dz = _gather_dot(dy, values, indices, w_dec)
    return dz, None, _weight_gradient(values, indices, dy, w_dec.shape[0])[0]


def _gather_dot(dy: jax.Array, values: jax.Array, indices: jax.Array, w_dec: jax.Array) -> jax.Array:
    """<dy_b, W_dec,i> on the pairs that have a value; 0 elsewhere."""
    batch, k = values.shape
    capacity = pair_capacity(batch, k)

    def flat():
        live = (values != 0).reshape(-1)
        _, rows, latents = pairs.flatten(values, indices, capacity)
        size = max(1, min(capacity, pairs.CHUNK_NUMBERS // w_dec.shape[1]))
        dot = lambda p: (dy[p[0]] * w_dec[p[1]]).sum(-1)
        dots = jax.lax.map(dot, (rows, latents), batch_size=size)
        place = jnp.clip(jnp.cumsum(live) - 1, 0, capacity - 1)
        return jnp.where(live, dots[place], 0).reshape(batch, k)

    return pairs.with_capacity(values, capacity, flat, lambda: pairs.gather_dot(dy, indices, w_dec))


decode.defvjp(lambda v, i, w: (decode(v, i, w), (v, i, w)), _decode_backward)
