"""The two ceilings of a device, measured: a matrix product, and a copy within its memory."""

import functools
import statistics
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jaxsae.check.findings import MEASURED, Outcome
from jaxsae.check.item import Check
from jaxsae.platform import full_precision

SIZE, HOST_SIZE = 8192, 2048  # of the square matrices
COPY_BYTES, HOST_COPY_BYTES = 2**30, 2**27
CALLS, REPEATS = 10, 5  # calls in a row are timed together, so that starting one is hidden behind the one before


def checks(device: jax.Device) -> Iterator[Check]:
    """The products in both types, then the copy."""
    size = HOST_SIZE if device.platform == "cpu" else SIZE
    for dtype in ("bfloat16", "float32"):
        shapes = {"batch": size, "d_model": size, "width": size, "dtype": dtype}
        yield Check(f"matmul {dtype}", "ceilings", "library", shapes, functools.partial(_matmul, device, size, dtype))
    size = HOST_COPY_BYTES if device.platform == "cpu" else COPY_BYTES
    yield Check("copy", "ceilings", "library", {"bytes": size}, functools.partial(_copy, device, size))


def seconds_of(function: Callable, *args: jax.Array) -> float:
    """Median seconds of a call, of several rows of calls without a wait between them; a first row is not counted."""
    taken = []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        for _ in range(CALLS):
            out = function(*args)
        jax.block_until_ready(out)
        taken.append((time.perf_counter() - began) / CALLS)
    return statistics.median(taken[1:])


def _matmul(device: jax.Device, size: int, dtype: str, rng: np.random.Generator) -> Outcome:
    """On random numbers, which cost a chip more power than zeros, and so may cost it clock."""
    with jax.default_device(device):
        keys = jax.random.split(jax.random.key(int(rng.integers(2**31))), 2)
        a, b = (jax.random.normal(key, (size, size), dtype) for key in keys)
        product = jax.jit(
            functools.partial(jnp.matmul, precision=full_precision(a.dtype), preferred_element_type=a.dtype)
        )
        seconds = seconds_of(product, a, b)
    return Outcome(MEASURED, figures={"flops": 2 * size**3 / seconds, "seconds_of_one": seconds})


def _copy(device: jax.Device, size: int, rng: np.random.Generator) -> Outcome:
    """Bytes that are read and bytes that are written, each counted."""
    with jax.default_device(device):
        x = jax.random.normal(jax.random.key(int(rng.integers(2**31))), (size // 4,), jnp.float32)
        seconds = seconds_of(jax.jit(jnp.copy), x)
    return Outcome(MEASURED, figures={"bytes_per_second": 2 * size / seconds, "seconds_of_one": seconds})
