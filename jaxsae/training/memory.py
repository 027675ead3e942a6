"""Memory is stated before a run starts, per device, and what cannot fit is refused."""

import dataclasses
import math
from pathlib import Path

import jax

from jaxsae.errors import InputError
from jaxsae.hosts import processes
from jaxsae.training.state import TrainState

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class MemoryPlan:
    """Bytes on one device: what a run holds all the time, and what a step needs besides."""

    parameters: int
    moments: int
    gradients: int
    batch: int
    workspace: int | None = None  # known once the step is compiled
    averaged: int | None = None  # weights made of their average, where a checkpoint is judged

    @property
    def total(self) -> int:
        """Bytes of all parts together."""
        return sum(getattr(self, f.name) or 0 for f in dataclasses.fields(self))

    def lines(self, available: int | None) -> list[str]:
        """A table for people."""
        rows = [(f.name, getattr(self, f.name)) for f in dataclasses.fields(self)]
        table = [f"  {name:<12}{size / GIB:10.3f} GiB" for name, size in rows if size is not None]
        limit = f" of {available / GIB:.1f} GiB there" if available else ""
        return ["memory of one device", *table, f"  {'total':<12}{self.total / GIB:10.3f} GiB{limit}"]


def local_bytes(tree) -> int:
    """Bytes of one device's shards of a tree of abstract arrays with shardings."""
    leaves = jax.tree.leaves(tree)
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)


def plan_memory(state: TrainState, batch_bytes: int, forms_gradient: bool) -> MemoryPlan:
    """What can be told from shapes alone.

    Args:
      forms_gradient: whether a whole gradient stands at some time, or is summed block by block.
    """
    parameters = local_bytes(state.params) + (local_bytes(state.average) if state.average else 0)
    # With what a step keeps besides, by latent or of an opponent of decoder rows.
    moments = local_bytes((state.moments, state.since_fired, state.frequency, state.opponent))
    gradients = local_bytes(state.params) if forms_gradient else 0
    averaged = local_bytes(state.params) if state.average else None
    return MemoryPlan(parameters, moments, gradients, batch_bytes, averaged=averaged)


def with_workspace(plan: MemoryPlan, compiled) -> MemoryPlan:
    """The plan with what the compiler set aside beyond state and gradients."""
    temporary = compiled.memory_analysis().temp_size_in_bytes
    return dataclasses.replace(plan, workspace=max(0, temporary - plan.gradients))


def available_bytes(device: jax.Device) -> int | None:
    """Memory a device may still take; on CPU an even share of what the machine or its container has left.

    Devices of other processes of the run that are on the same machine have their share, too.
    """
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0) if "bytes_limit" in stats else None
    free = [_machine_free(), _container_free()]
    known = [f for f in free if f is not None]
    return min(known) // (jax.local_device_count() * processes.count_here()) if known else None


def _machine_free() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)


def _container_free() -> int | None:
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        cache = Path("/sys/fs/cgroup/memory.stat").read_text().split("inactive_file ")[1].split()[0]
    except (OSError, IndexError):
        return None
    return None if limit == "max" else int(limit) - used + int(cache)


def check_fits(plan: MemoryPlan, available: int | None) -> None:
    """Raises `InputError` where the plan needs more than there is."""
    if available is not None and plan.total > available:
        raise InputError(
            f"this configuration needs {plan.total / GIB:.1f} GiB on each device and {available / GIB:.1f} GiB are free. "
            "Take a smaller --width or --batch_size, more devices on --mesh's second number, "
            "or --optimizer=adam_bf16 (half the moments)."
        )
