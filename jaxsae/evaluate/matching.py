"""What a dictionary of random directions explains: the baseline of a decomposition into as many, and as few, parts.

Orthogonal matching pursuit: of `width` random unit directions the one nearest to what is left of a row, k times, each
time with the coefficients that fit the row best. A trained dictionary has one pass and its own coefficients for that.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsae.dictionary import SPECS, Dictionary, MethodConfig
from jaxsae.dictionary.parameters import tied_init
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.decoder_rows import DecoderRows
from jaxsae.parallel import shardings
from jaxsae.progress import Progress

_APART = 0x6D70  # from the keys of dictionaries that start at the same seed, whose rows would be among the directions


def random_dictionary(context: Context) -> Dictionary:
    """Random unit directions, as many as the context's dictionary has latents, of which the best one is active."""
    mesh, width, d = context.dictionary.mesh, context.dictionary.width, context.dictionary.d_model
    make = jax.jit(partial(tied_init, width=width, d_model=d), out_shardings=shardings(mesh, SPECS))
    key = jax.random.fold_in(jax.random.key(context.config.seed), _APART)
    return Dictionary(make(key), MethodConfig(width=width, k=1), mesh=mesh)


def matched_by_random(context: Context, rows: DecoderRows, k: int) -> dict[str, Any]:
    """Variance about the mean that k directions a row explain: `explained_variance` (None: there is none), `k`, `width`."""
    dictionary = random_dictionary(context)
    left = total = 0.0
    with Progress(rows.count, "random directions", "row", scale=True) as bar:
        for _, x in rows.batches():
            y = np.float64(x) - rows.mean
            y = y[x.any(1)]
            if len(y):
                left += np.square(matching_pursuit(dictionary, y, k)).sum()
                total += np.square(y).sum()
            bar.advance(len(x))
    explained = 1 - left / total if total > 0 else None
    return {"explained_variance": explained, "k": k, "width": dictionary.width}


def matching_pursuit(dictionary: Dictionary, y: np.ndarray, k: int) -> np.ndarray:
    """float64 [B, d]: what is left of y [B, d] after k directions of a `topk` dictionary with k 1 and biases 0."""
    left, chosen = y, np.zeros((len(y), 0, y.shape[1]))
    for _ in range(k):
        best = dictionary.encode(np.float32(left)).indices[:, 0]
        direction = np.asarray(jnp.take(dictionary.params.W_dec, best, axis=0), np.float64)
        chosen = np.concatenate([chosen, direction[:, None]], 1)
        products = np.einsum("bkd,bld->bkl", chosen, chosen)
        # The pseudo-inverse: where nothing is left a direction may come twice.
        coefficients = np.linalg.pinv(products, hermitian=True) @ np.einsum("bkd,bd->bk", chosen, y)[..., None]
        left = y - np.einsum("bkd,bk->bd", chosen, coefficients[..., 0])
    return left
