"""Names of topologies, and their devices, which are not there."""

import dataclasses
import importlib.util
import math
import os
import re
from collections.abc import Sequence

import jax

from jaxsae.errors import InputError
from jaxsae.plan.chips import CHIPS, Chip
from jaxsae.plan.targets import TARGETS

PLUGINS = {"tpu": ("libtpu", "libtpu", "plan-tpu"), "gpu": ("jax_plugins.xla_cuda13", "jax-cuda13-plugin", "plan-gpu")}

# By dimensions, in order of size (https://cloud.google.com/tpu/docs, "topologies" of v5e and v5p).
SLICES = {
    2: ((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16)),
    3: ((1, 1, 1), (2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4), (4, 4, 4)),
}

# Read when libtpu is loaded: what it would otherwise ask of the machine that it is not on.
TPU_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """`family` and `size` of a name such as v5p:4x4x4."""

    family: str
    size: tuple[int, ...]

    @classmethod
    def of(cls, name: str) -> "Topology":
        """Reads a name.

        Raises:
          InputError: no such family or size; the message lists those that there are.
        """
        match = re.fullmatch(r"(\w+):(\d+(?:x\d+)*)", name.strip().lower())
        chip = CHIPS.get(match[1]) if match else None
        if chip is None:
            raise InputError(f"--topology={name}: no such topology. {known()}")
        size = tuple(map(int, match[2].split("x")))
        if len(size) != chip.dimensions or not _is_slice(chip, size):
            raise InputError(f"--topology={name}: {match[1]} has no slice of that shape. {known()}")
        return cls(match[1], size)

    @property
    def chip(self) -> Chip:
        """Figures of one device."""
        return CHIPS[self.family]

    @property
    def count(self) -> int:
        """Devices."""
        return math.prod(self.size) * self.chip.halves

    def check_plugin(self) -> None:
        """Raises `InputError` with the command that brings it where the compiler for this platform is missing."""
        module, package, extra = PLUGINS[self.chip.platform]
        try:
            found = importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:
            found = False
        if not found:
            raise InputError(
                f"--topology={self}: the compiler for it, the package {package}, is not installed. "
                f"pip install 'jaxsae[{extra}]', or in a checkout: pip install -e '.[{extra}]'"
            )

    def devices(self) -> Sequence[jax.Device]:
        """The devices; they compile and cannot run.

        Raises:
          InputError: the compiler knows no such topology.
        """
        try:
            return self._described()
        except jax.errors.JaxRuntimeError as error:
            raise InputError(f"--topology={self}: {str(error).splitlines()[0]}") from None

    def _described(self) -> Sequence[jax.Device]:
        from jax.experimental import topologies

        if self.chip.platform == "gpu":
            machines, each = -(-self.count // self.chip.machine), min(self.count, self.chip.machine)
            shape = f"1x{machines}x{each}"
            made = topologies.get_topology_desc(platform="cuda", target_config=TARGETS[self.family], topology=shape)
            return made.devices
        os.environ.update(TPU_ENVIRONMENT)
        options = {"chip_config_name": "megacore"} if self.family == "v4" else {}  # one device a chip, as it is run
        if math.prod(self.size) == 1:
            options["chips_per_host_bounds"] = [1, 1, 1]
        return topologies.get_topology_desc(platform="tpu", topology_name=str(self), **options).devices

    def larger(self) -> "Topology | None":
        """The next slice with twice the devices or more, or None where there is none."""
        if self.chip.platform == "gpu":
            count, machine = 2 * self.size[0], self.chip.machine
            size = (count if count <= machine else -(-count // machine) * machine,)
        else:
            named = SLICES[self.chip.dimensions]
            later = named[named.index(self.size) + 1 :] if self.size in named else ()
            size = later[0] if later else tuple(sorted((2 * self.size[0], *self.size[1:])))
        return Topology(self.family, size) if _is_slice(self.chip, size) else None

    def __str__(self) -> str:
        return f"{self.family}:{'x'.join(map(str, self.size))}"


def _is_slice(chip: Chip, size: tuple[int, ...]) -> bool:
    """Whether there is such a slice: `SLICES`, in three dimensions cubes of 4 x 4 x 4, too; of GPUs whole machines."""
    count = math.prod(size)
    if not 1 <= count <= chip.largest:
        return False
    if chip.platform == "gpu":
        return count <= chip.machine or count % chip.machine == 0
    cubes = len(size) == 3 and size == tuple(sorted(size)) and all(side % 4 == 0 for side in size)
    return size in SLICES[chip.dimensions] or cubes


def _shapes(dimensions: int) -> str:
    return ", ".join("x".join(map(str, size)) for size in SLICES[dimensions])


def known() -> str:
    """The families with the shapes of their slices, for people."""
    return (
        f"There are v4:, v5p: and tpu7x:AxBxC ({_shapes(3)}, or multiples of 4 in ascending order, such as v5p:4x4x8), "
        f"v5e: and v6e:AxB ({_shapes(2)}), and h100:N, h200:N (1 to 8, or whole machines of 8)."
    )
