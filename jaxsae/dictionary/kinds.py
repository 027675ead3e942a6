"""Arrays as they come, from JAX, NumPy or torch, and answers in the same kind.

Torch is never imported for an array that is not torch's. Tensors pass through DLPack, without a copy where both libraries
have the device, else over the host; no gradient passes.
"""

import dataclasses
import math
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsae.errors import InputError

_FLOATS = ("torch.float32", "torch.bfloat16", "torch.float16")  # that JAX takes whatever its settings


def is_torch(x: Any) -> bool:
    """Whether it is a tensor of torch."""
    return any(kind.__module__.partition(".")[0] == "torch" for kind in type(x).__mro__)


@dataclasses.dataclass(frozen=True)
class Kind:
    """What an answer is to be like: its leading dimensions, and the device of a torch tensor."""

    leading: tuple[int, ...]
    torch_device: Any = None

    def of(self, rows: jax.Array) -> Any:
        """[N, ...] as [*leading, ...], of the kind; integers of torch are int64, which it indexes with."""
        array = rows if len(self.leading) == 1 else rows.reshape(*self.leading, *rows.shape[1:])
        return array if self.torch_device is None else to_torch(array, self.torch_device)


def rows_of(x: Any, width: int, what: str, mesh: Mesh) -> tuple[jax.Array, Kind]:
    """x [..., width] as rows [N, width] of its own dtype for `mesh`, and its kind.

    Raises:
      InputError: another shape, or no rows; `what` says whose it is.
    """
    shape = tuple(getattr(x, "shape", ()))
    if len(shape) < 2 or shape[-1] != width or not math.prod(shape):
        got = list(shape) if hasattr(x, "shape") else type(x).__name__
        raise InputError(f"{what} [B, {width}] or [..., {width}] with at least one row, got {got}")
    if is_torch(x):
        array, kind = from_torch(x, mesh), Kind(shape[:-1], x.device)
    else:
        array, kind = x, Kind(shape[:-1])
    return (array if len(shape) == 2 else array.reshape(-1, width)), kind


def from_torch(x: Any, mesh: Mesh) -> jax.Array:
    """A tensor's values on every device of `mesh`; of floats of another precision float32."""
    x = x.detach()
    if x.is_floating_point() and str(x.dtype) not in _FLOATS:
        x = x.float()
    x = x.contiguous()
    everywhere = NamedSharding(mesh, P())
    try:
        return jax.device_put(jax.dlpack.from_dlpack(x), everywhere)
    except Exception:  # JAX does not have its device, or not the type
        x = x.cpu()
        host = x.float().numpy() if str(x.dtype) == "torch.bfloat16" else x.numpy()
        return jax.device_put(host.astype(np.int32) if host.dtype.kind in "iu" else host, everywhere)


def to_torch(array: jax.Array | np.ndarray, device: Any) -> Any:
    """A tensor on `device`."""
    import torch

    if isinstance(array, np.ndarray):
        tensor = torch.from_numpy(array)
    else:
        array = jax.block_until_ready(array).addressable_data(0)  # the same on every device
        try:
            tensor = torch.from_dlpack(array)
        except Exception:  # of a device that this torch lacks
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tensor = torch.from_numpy(np.array(array))
    return (tensor if tensor.is_floating_point() else tensor.long()).to(device)


def dense(values: Any, indices: Any, width: int) -> Any:
    """[..., width] of values and indices [..., k], zeros elsewhere, in their kind."""
    shape = (*values.shape[:-1], width)
    if is_torch(values):
        return values.new_zeros(shape).scatter_add_(-1, indices, values)
    if isinstance(values, np.ndarray) and isinstance(indices, np.ndarray):
        out = np.zeros((math.prod(shape[:-1]), width), values.dtype)
        flat = indices.reshape(len(out), -1)
        np.add.at(out, (np.arange(len(out))[:, None], flat), values.reshape(flat.shape))
        return out.reshape(shape)
    at = jnp.ix_(*(jnp.arange(n) for n in shape[:-1]), jnp.arange(1))[:-1]
    return jnp.zeros(shape, values.dtype).at[(*at, indices)].add(values)
