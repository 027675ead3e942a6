"""The mesh, the shardings, and the two collectives with the gradients that a per-device program needs.

Latents are split over the mesh's `model` axis, the batch over `data`; one device is the 1x1 mesh.
The training step is written as the program of one device (`jax.shard_map`, `check_vma=False`), and
`sum_over_model` / `copy_to_model` are conjugate: the transpose of either is the other. A parameter that
meets rows of the batch outside the kernels passes through `copy_to_data`, so that gradients are those of
the whole batch.
"""

from collections.abc import Sequence
from functools import partial

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsae.errors import InputError

DATA, MODEL = "data", "model"
AXES = (DATA, MODEL)


def make_mesh(shape: Sequence[int], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of `shape` = (data, model); empty means every device on `model`.

    Raises:
      InputError: the shape is not two positive numbers whose product is the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    shape = tuple(shape) or (1, len(devices))
    given = ",".join(map(str, shape))
    if len(shape) != 2 or min(shape) < 1:
        raise InputError(f"--mesh={given}: give two positive numbers, DATA,MODEL, such as --mesh=1,{len(devices)}")
    if shape[0] * shape[1] != len(devices):
        raise InputError(
            f"--mesh={given} needs {shape[0] * shape[1]} devices and there are {len(devices)}: "
            f"give two numbers whose product is {len(devices)}, such as --mesh=1,{len(devices)}"
        )
    return Mesh(np.asarray(devices).reshape(shape), AXES)


def check_divides(mesh: Mesh, width: int, batch_size: int, layers: int = 1) -> None:
    """Raises `InputError` unless latents, equally many of each layer, and batch split evenly over `mesh`."""
    data, model = mesh.devices.shape
    if width % (model * layers):
        whole, of = model * layers, f" of {layers} layers" * (layers > 1)
        fix = f"take a width{of} that is a multiple of {whole}, such as {-(-width // whole) * whole}"
        raise InputError(f"--width={width} does not divide over the {model} shards of --mesh={data},{model}: {fix}")
    if batch_size % data:
        fix = f"take a multiple of {data}, such as {-(-batch_size // data) * data}"
        raise InputError(f"--batch_size={batch_size} does not divide over {data} data shards: {fix}")


def rows_at_once(rows: int, batch_size: int, mesh: Mesh) -> int:
    """Rows of the equal pieces that `rows` rows go through a mesh in: as many as a step's or fewer, and the same number
    on each data shard. A few of the rows may be left over."""
    pieces, data = max(1, -(-rows // batch_size)), mesh.shape[DATA]
    size = rows // pieces
    return max(size - size % data, data)


def shardings(mesh: Mesh, specs):
    """A tree of PartitionSpecs -> the same tree of NamedShardings."""
    return jax.tree.map(lambda s: NamedSharding(mesh, s), specs, is_leaf=lambda s: isinstance(s, P))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over `data`, whole on every `model` shard."""
    return NamedSharding(mesh, P(DATA, None))


def put_rows(rows: np.ndarray, mesh: Mesh) -> jax.Array:
    """Rows [B, d], the same in every process, as a batch."""
    return jax.make_array_from_callback(rows.shape, batch_sharding(mesh), lambda place: rows[place])


@jax.custom_vjp
def sum_over_model(x: jax.Array) -> jax.Array:
    """psum over `model`; every shard then goes on with the same value, so the gradient passes as it is."""
    return jax.lax.psum(x, MODEL)


sum_over_model.defvjp(lambda x: (jax.lax.psum(x, MODEL), None), lambda _, g: (g,))


@jax.custom_vjp
def copy_to_model(x: jax.Array) -> jax.Array:
    """The identity, where each `model` shard uses `x` on its own latents: the shards' gradients are summed."""
    return x


copy_to_model.defvjp(lambda x: (x, None), lambda _, g: (jax.lax.psum(g, MODEL),))


@jax.custom_vjp
def copy_to_data(x: jax.Array) -> jax.Array:
    """The identity on a parameter that each `data` shard uses on its own rows: the gradients are summed."""
    return x


copy_to_data.defvjp(lambda x: (x, None), lambda _, g: (jax.lax.psum(g, DATA),))

sum_over_data = partial(jax.lax.psum, axis_name=DATA)
