"""The ways a step may go, of which one is taken: with dead latents or without, with more active latents or with as many as
in the end."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxsae.dictionary import Method
from jaxsae.parallel import AXES, MODEL
from jaxsae.training.routes import capacity_for_dead, needs_pairs_for_dead
from jaxsae.training.update import Weights

PLAIN_SCOPE, AUX_SCOPE = "plain_step", "aux_step"  # names in the compiled program; of these one runs
FULL_SCOPE = "overfull_step"  # where more latents are dead than there is room for


def ways_of(method: Method, aux: bool, dead: jax.Array, fraction: jax.Array) -> list[tuple]:
    """The ways a step may go: (name, method, route of dead latents, whether it is this one), of which one is.

    While more latents are active than in the end, a step of its own pays for them.

    Args:
      aux: whether there is an auxiliary loss of dead latents. dead: bool [n_local]. fraction: of the steps that are done.
    """
    if not method.anneals:
        return [(name, method, *rest) for name, *rest in _of_dead(method, aux, dead)]
    ways, early = _of_dead(method, aux, dead), fraction < method.selection.anneal.share
    late = method.without_anneal()
    first = [(f"early_{name}", method, route, taken & early) for name, route, taken in ways]
    return first + [(name, late, route, taken & ~early) for name, route, taken in ways]


def _of_dead(method: Method, aux: bool, dead: jax.Array) -> list[tuple[str, str | None, jax.Array | bool]]:
    """(name, route of dead latents, whether it is this one).

    The auxiliary loss is computed, and paid for, only while latents are dead; by pairs where more of them are dead than
    there is room for on some device.
    """
    if not (aux and method.has_aux):
        return [(PLAIN_SCOPE, None, True)]
    some = jax.lax.psum(dead.sum(), MODEL) > 0
    if not needs_pairs_for_dead(method, len(dead)):
        return [(PLAIN_SCOPE, None, ~some), (AUX_SCOPE, "tiles", some)]
    fits = jax.lax.pmax(dead.sum(), AXES) <= capacity_for_dead(len(dead))
    return [(PLAIN_SCOPE, None, ~some), (AUX_SCOPE, "tiles", some & fits), (FULL_SCOPE, "pairs", ~fits)]


def one_of(ways: list, attempt: Callable[..., tuple[Any, Weights]], weights: Weights) -> tuple[Any, Weights]:
    """`attempt(method, route of dead latents, weights)` by the way that is taken, which is known on the device alone.

    Loops, of which one makes a turn and the others none: a conditional would copy the weights that it hands through,
    a loop changes them in place.
    """
    if len(ways) == 1:
        return attempt(*ways[0][1:3], weights)
    shapes = jax.eval_shape(partial(attempt, ways[0][1], None), weights)[0]
    carry = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes), weights
    for scope, method, route, taken in ways:
        with jax.named_scope(scope):
            once = lambda _, c, way=(method, route): attempt(*way, c[1])
            carry = jax.lax.fori_loop(0, taken.astype(jnp.int32), once, carry)
    return carry
