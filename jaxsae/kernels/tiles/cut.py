"""Where a ranking is cut: the value above which the k largest of each row, or of a whole batch, lie.

Pre-activations stand as tiles [J, C, T] of one chunk of rows. The cut is found by counting how many are at or above a
guess: a step between what is known to be too low and too high, by interpolation of the logarithm of the counts, every
third time by halving the ordered bits of float32. It ends as soon as k are above, mostly within 20 counts; 31 halvings
would do for any floats. Whoever ranks again by the same cut gets the same latents, with no list of them.

Only positive values are ranked, since ReLU follows: with fewer than k of them all are kept. Numbers below float32's
smallest normal one, which devices may count as 0, are not kept.
"""

import operator
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from jaxsae.kernels.counting import running_count
from jaxsae.parallel import AXES, DATA, MODEL

LANES = 64  # entries whose count fits a byte, summed before the rest: twice as fast on CPUs
TINY = float(jnp.finfo(jnp.float32).tiny)
HALVINGS = 31  # of positive floats
NO_LIMIT = jnp.iinfo(jnp.int32).max


@flax.struct.dataclass
class Cut:
    """What is kept of each row: everything above `value`, and what equals it up to place `last`.

    Attributes:
      value: float32 [C]. last: int32 [C], a place j T + t on this shard.
    """

    value: jax.Array
    last: jax.Array

    def keep(self, pre: jax.Array, first: jax.Array | int) -> jax.Array:
        """`pre` [C, T] of the tile that begins at place `first`, 0 where it is not kept; NaN stays."""
        value, place = self.value[:, None], first + jnp.arange(pre.shape[1])
        surplus = (pre == value) & (place > self.last[:, None])
        return jnp.where((pre < value) | surplus, 0, pre)


def row_cut(pre: jax.Array, used: jax.Array | int, k: int, among: jax.Array | bool = True) -> Cut:
    """Of tiles pre [J, C, T], of which the first `used` hold latents: the k largest of each row over all shards.

    Equals are kept by lowest place, then shard by shard: what is kept does not depend on the mesh.

    Args:
      among: bool [C], rows that matter; the others' cuts mean nothing, and are not waited for.
    """
    count = lambda value: _over_model(_count(pre, used, value))
    alone = jax.lax.psum(1, MODEL) == 1
    top = jnp.where(among, _over_model(_top(pre, used), jax.lax.pmax), 0)
    value, kept = _search(count, top, k, alone)
    limits = lambda: _last_places(pre, used, value, k - _over_model(_count(pre, used, value, operator.gt)))
    # Of rows of which each `model` shard has its part of the latents: it is the same on all.
    tied = (among & (kept > k)).any()
    return Cut(value, jax.lax.cond(tied, limits, lambda: jnp.full(value.shape, NO_LIMIT)))


def batch_cut(pre: jax.Array, used: jax.Array | int, total: int, row_limit: int) -> Cut:
    """Of tiles pre [J, B, T] of a whole batch's rows on this device: the `total` largest over all devices.

    A row keeps at most `row_limit`: as if its `row_limit` largest were all it had. So a guess at the cut counts no row
    for more than that, and rows that have more above the cut have their own. Equals are kept by row, then place.
    """
    spread = lambda value: jnp.broadcast_to(value, pre.shape[1])
    of_rows = lambda value, compare=operator.ge: _over_model(_count(pre, used, spread(value), compare))
    whole = lambda counts: jax.lax.psum(jnp.minimum(counts, row_limit).sum(), DATA)
    on_any = lambda mask: jax.lax.pmax(mask.any(), AXES)
    top = jax.lax.pmax(_top(pre, used).max(), AXES)
    value, kept = _search(lambda value: whole(of_rows(value)), top, total, jax.lax.psum(1, AXES) == 1)
    above, found = of_rows(value, operator.gt), of_rows(value)

    def limits() -> jax.Array:
        tied = jnp.maximum(jnp.minimum(found, row_limit) - above, 0)
        before = jnp.cumsum(tied) - tied
        if jax.lax.psum(1, DATA) > 1:
            on_data = jax.lax.all_gather(tied.sum(), DATA)
            before += jnp.where(jnp.arange(len(on_data)) < jax.lax.axis_index(DATA), on_data, 0).sum()
        return _last_places(pre, used, spread(value), jnp.minimum(row_limit - above, total - whole(above) - before))

    beyond = above > row_limit
    surplus = (kept > total) | on_any(~beyond & (found > row_limit))
    cut = Cut(spread(value), jax.lax.cond(surplus, limits, lambda: jnp.full(pre.shape[1], NO_LIMIT)))

    def with_rows() -> Cut:
        own = row_cut(pre, used, row_limit, beyond)
        return jax.tree.map(lambda a, b: jnp.where(beyond, a, b), own, cut)

    return jax.lax.cond(on_any(beyond), with_rows, lambda: cut)


def _search(count: Callable, top: jax.Array, k: int, alone: bool) -> tuple[jax.Array, jax.Array]:
    """The cut, of the shape of `top`, and how many are at or above it: k, more where several equal it, or fewer than k.

    Args:
      count: values -> how many entries are at or above each. top: the largest entries.
      alone: no other device counts; devices that count together halve so often that all are done, and meet as often.
    """
    bits = lambda value: jax.lax.bitcast_convert_type(jnp.asarray(value, jnp.float32), jnp.int32)
    value = lambda number: jax.lax.bitcast_convert_type(number, jnp.float32)
    low = jnp.full(top.shape, bits(TINY))
    high = jnp.maximum(bits(jnp.where(jnp.isnan(top), jnp.inf, jnp.maximum(top, 0))) + 1, low + 1)
    at_low = count(value(low))
    state = low, high, at_low, jnp.zeros_like(at_low), jnp.int32(0)
    goes_on = lambda s: (s[2] > k) & (s[1] - s[0] > 1)

    def step(s):
        low, high, at_low, at_high, turn = s
        a, b = value(low), value(high)
        log = lambda number: jnp.log(number.astype(jnp.float32) + 0.5)
        share = (log(at_low) - jnp.log(k + 0.0)) / (log(at_low) - log(at_high))
        between = bits(a + (b - a) * share)
        between = jnp.where((turn % 3 == 2) | (not alone), low + (high - low) // 2, between)
        guess = jnp.where(goes_on(s), jnp.clip(between, low + 1, high - 1), low)
        found = count(value(guess))
        enough = found >= k
        pick = lambda yes, no: jnp.where(enough, yes, no)
        return pick(guess, low), pick(high, guess), pick(found, at_low), pick(at_high, found), turn + 1

    if alone:
        low, _, at_low, *_ = jax.lax.while_loop(lambda s: goes_on(s).any(), step, state)
    else:
        low, _, at_low, *_ = jax.lax.fori_loop(0, HALVINGS, lambda _, s: step(s), state)
    return value(low), at_low


def _over_model(x: jax.Array, collective: Callable = jax.lax.psum) -> jax.Array:
    return x if jax.lax.psum(1, MODEL) == 1 else collective(x, MODEL)


def over_tiles(used: jax.Array | int, body: Callable, start: Any) -> Any:
    """`body(number, state)` for each tile in use; without a loop where that is one."""
    return body(0, start) if isinstance(used, int) and used == 1 else jax.lax.fori_loop(0, used, body, start)


def counted(mask: jax.Array) -> jax.Array:
    """int32 [C]: how many of bool [C, T]."""
    rows, size = mask.shape
    if size % LANES:
        return mask.sum(1, dtype=jnp.int32)
    axis = 1 if size <= 127 * LANES else 2  # the one that is no longer than a byte counts
    parts = mask.astype(jnp.int8).reshape(rows, size // LANES, LANES).sum(axis, dtype=jnp.int8)
    return parts.astype(jnp.float32).sum(1).astype(jnp.int32)


def _count(pre: jax.Array, used, value: jax.Array, compare: Callable = operator.ge) -> jax.Array:
    """int32 [C]: how many entries of each row compare so with its value."""
    zero = jnp.zeros(pre.shape[1], jnp.int32)
    return over_tiles(used, lambda j, n: n + counted(compare(pre[j], value[:, None])), zero)


def _top(pre: jax.Array, used) -> jax.Array:
    start = jnp.full(pre.shape[1], -jnp.inf)
    return over_tiles(used, lambda j, most: jnp.maximum(most, pre[j].max(1)), start)


def _last_places(pre: jax.Array, used, value: jax.Array, room: jax.Array) -> jax.Array:
    """int32 [C]: the place of the last entry equal to `value` that has a place among the first `room`; -1: none."""
    if jax.lax.psum(1, MODEL) > 1:
        ties = jax.lax.all_gather(_count(pre, used, value, operator.eq), MODEL)
        earlier = jnp.arange(len(ties))[:, None] < jax.lax.axis_index(MODEL)
        room = room - jnp.where(earlier, ties, 0).sum(0)

    def add(j, state):
        seen, last = state
        tied, size = pre[j] == value[:, None], pre.shape[2]
        kept = tied & (seen[:, None] + running_count(tied) <= room[:, None])
        place = jnp.where(kept, j * size + jnp.arange(size), -1).max(1)
        return seen + counted(tied), jnp.maximum(last, place)

    zero = jnp.zeros(pre.shape[1], jnp.int32)
    return over_tiles(used, add, (zero, zero - 1))[1]
