"""What suites of probes have in common: dictionaries of random directions, one thread."""

from contextlib import AbstractContextManager
from functools import partial

import jax
import numpy as np

from jaxsae.dictionary import SPECS, Dictionary, MethodConfig
from jaxsae.dictionary.parameters import tied_init
from jaxsae.parallel import shardings

_RANDOM_KEY = 0xD1C7


def random_like(dictionary: Dictionary, mean: np.ndarray, l0: float, seed: int) -> Dictionary:
    """As many latents as `dictionary` has along random unit directions about `mean`, float32 [d_in], of which a row keeps the
    `l0` largest, rounded."""
    mesh, width = dictionary.mesh, dictionary.width
    make = jax.jit(partial(tied_init, width=width, d_model=dictionary.d_model), out_shardings=shardings(mesh, SPECS))
    params = make(jax.random.fold_in(jax.random.key(seed), _RANDOM_KEY)).put(b_dec=np.float32(mean))
    return Dictionary(params, MethodConfig(width=width, k=min(width, max(1, round(l0)))), mesh=mesh)


def one_thread() -> AbstractContextManager:
    """Within it BLAS and scikit-learn use one thread: for products so small more are slower, and sums keep their order."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1)
