"""Makes a certified selection exact: rows whose certificate failed are selected again by an exact method.

A fast kernel keeps few candidates and, beside them, a bound on everything that it dropped. A row whose k-th
value is above that bound is exact; the others are flagged. Since flags are rare, the exact method, which
goes through all latents again, sees a few rows at a time, as often as it takes.
"""

from collections.abc import Callable

import jax

from jaxsae.kernels.counting import places
from jaxsae.kernels.encode_topk.parts.stream import TopK


def repair(best: TopK, flagged: jax.Array, x: jax.Array, exact: Callable[[jax.Array], TopK], rows: int) -> TopK:
    """`best` [B, k] with its flagged rows replaced by `exact(x of those rows)`.

    Args:
      best: values and indices [B, k]; what they hold in flagged rows is of no account.
      flagged: bool [B].
      x: [B, d].
      exact: rows of x [R, d] -> values and indices [R, k]. Not called at run time where nothing is flagged.
      rows: R, repaired together; no more than B are taken.
    """
    batch = x.shape[0]
    rows = min(rows, batch)

    def some_rows(state):
        values, indices, flagged = state
        at, _ = places(flagged, rows)  # `batch` where there are no more: a spare place, dropped on writing
        new_values, new_indices = exact(x.at[at].get(mode="fill", fill_value=0))
        put = lambda old, new: old.at[at].set(new, mode="drop")
        return put(values, new_values), put(indices, new_indices), flagged.at[at].set(False, mode="drop")

    values, indices, _ = jax.lax.while_loop(lambda state: state[2].any(), some_rows, (*best, flagged))
    return values, indices
