"""Compiled functions whose results and workspace are poisoned before each call: what a kernel leaves unwritten shows."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

POISON = 0x7FC0DEAD  # a NaN as float32; as an index it points at nothing
MOST_BYTES = 2**32  # of workspace that is poisoned


class Poisoned:
    """A function on one device, compiled for its arguments.

    Results are written over donated arrays full of poison. Workspace is whatever memory the allocator hands out, so as
    much as the program takes is filled with poison and given back just before.
    """

    def __init__(self, function: Callable[..., Any], device: jax.Device, *args: Any):
        began = time.perf_counter()
        self.device = device
        outputs = jax.eval_shape(function, *args)
        self._outputs, structure = jax.tree.flatten(outputs)
        donated = jax.jit(lambda old, *args: function(*args), donate_argnums=0, keep_unused=True)
        old = jax.tree.unflatten(structure, self._outputs)
        with jax.default_device(device):
            self.compiled = donated.lower(old, *args).compile()
        self._structure = structure
        self.compile_seconds = time.perf_counter() - began

    def __call__(self, *args: Any) -> Any:
        """Results as NumPy arrays."""
        args = jax.device_put(args, self.device)
        self._fill_workspace()
        old = jax.tree.unflatten(self._structure, [poison(o.shape, o.dtype, self.device) for o in self._outputs])
        return jax.tree.map(np.asarray, self.compiled(old, *args))

    def _fill_workspace(self) -> None:
        size = min(MOST_BYTES, self.compiled.memory_analysis().temp_size_in_bytes) // 4
        if size:
            poison((size,), jnp.float32, self.device).block_until_ready().delete()


def poison(shape: tuple[int, ...], dtype: Any, device: jax.Device) -> jax.Array:
    """An array full of it, made on the device."""
    dtype = jnp.dtype(dtype)
    with jax.default_device(device):
        if dtype.itemsize == 4:
            return jax.lax.bitcast_convert_type(jnp.full(shape, POISON, jnp.uint32), dtype)
        if jnp.issubdtype(dtype, jnp.floating):
            return jnp.full(shape, jnp.nan, dtype)
        return jnp.full(shape, True, dtype) if dtype.kind == "b" else jnp.full(shape, -1, dtype)


def bits(tree: Any) -> list[bytes]:
    """The bits of all results, to be compared."""
    return [np.ascontiguousarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]
