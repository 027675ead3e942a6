"""Which device a program is meant for.

That is not always the one that traces it: `jaxsae plan` compiles for TPUs and GPUs on a machine that has
neither, so code that suits itself to the device asks here and not `jax.default_backend()`.
"""

import dataclasses
import re
from contextlib import AbstractContextManager

import jax
import jax.numpy as jnp
from jax.sharding import Mesh


@dataclasses.dataclass(frozen=True)
class Target:
    """A kind of device.

    Attributes:
      platform: `cpu`, `gpu` or `tpu`. kind: the maker's name as JAX has it, such as `TPU v5` (v5p) or `NVIDIA H200`.
    """

    platform: str
    kind: str

    @property
    def is_hopper(self) -> bool:
        """Whether it is a GPU of compute capability 9.0, by its name: what is compiled for need not be there to ask."""
        return self.platform == "gpu" and re.search(r"\bG?H(20|100|200|800)\b", self.kind) is not None


def target() -> Target:
    """The kind of device of the mesh in use; where none is in use, of the default backend.

    A mesh is in use inside `jax.shard_map` and `compiling_for`.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device or jax.devices()[0]
    return Target(device.platform, device.device_kind)


def target_platform() -> str:
    """`cpu`, `gpu` or `tpu`, see `target`."""
    return target().platform


def full_precision(dtype: jnp.dtype) -> jax.lax.Precision | None:
    """How matrix units are to multiply: float32 in float32, where TPUs and GPUs would cut it to 8 or 10 bits unasked."""
    return jax.lax.Precision.HIGHEST if dtype == jnp.float32 else None


def compiling_for(mesh: Mesh) -> AbstractContextManager:
    """Within it `target` answers for the devices of `mesh`."""
    return jax.sharding.use_abstract_mesh(mesh.abstract_mesh)
