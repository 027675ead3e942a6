"""What the machine has, and which kernels its runs take: `auto`'s choice for a few shapes, and why others are refused.

For the shapes of the training step the choice stands with the step's figures: on a GPU it is made by a measurement.
"""

import functools
import importlib.metadata
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import backend

from jaxsae.check.encoders import ROWS, WIDTH, D
from jaxsae.check.findings import MEASURED, Outcome
from jaxsae.check.item import Check, shapes_of
from jaxsae.check.pair_sums import kernel_of
from jaxsae.kernels.encode_topk import choose
from jaxsae.training.memory import available_bytes

PACKAGES = ("jaxsae", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorstore", "grain", "numpy")
PACKAGES += ("jax-cuda13-plugin", "jax-cuda12-plugin", "libtpu", "torch", "eai-sparsify")
K, ODD = 32, 100  # latents of a row; a width of rows that is no multiple of what accelerators' kernels take
VARIABLES = (
    "JAX_PLATFORMS",
    "XLA_FLAGS",
    "XLA_PYTHON_CLIENT_MEM_FRACTION",
    "XLA_PYTHON_CLIENT_PREALLOCATE",
    "JAXSAE_AVOID",
)


def checks(device: jax.Device) -> Iterator[Check]:
    """The machine."""
    yield Check(
        "machine", "machine", "", {}, lambda rng: Outcome(MEASURED, message=_hint(device), figures=_machine(device))
    )


def choices() -> Iterator[Check]:
    """`auto`'s choice in both types, for a width of rows that every kernel takes and for one that few do."""
    for d in (D, ODD):
        for dtype in ("float32", "bfloat16"):
            shapes = shapes_of(ROWS, d, WIDTH, K, dtype)
            yield Check(f"choice d {d} {dtype}", "kernels", "auto", shapes, functools.partial(_choice, d, dtype))


def choice(device: jax.Device, batch: int, d: int, width: int, k: int, dtype: str) -> dict[str, Any]:
    """Which kernel `auto` takes for these shapes, why not the one made for the device, why others do not run, and what
    was measured for it, in seconds by candidate."""
    x, w = (jax.ShapeDtypeStruct(shape, jnp.dtype(dtype)) for shape in ((batch, d), (width, d)))
    name, why = choose.explained(x, w, k)
    refused = {other: reason for other, reason in choose.refusals(x, w, k).items() if reason}
    seconds = choose.known_seconds(device.device_kind, batch, width, d, k, dtype)
    return {"takes": name, "since": why, "pairs": kernel_of(d), "refused": refused, "seconds": seconds}


def _choice(d: int, dtype: str, rng: np.random.Generator) -> Outcome:
    found = choice(jax.local_devices()[0], ROWS, d, WIDTH, K, dtype)
    message = f"takes {found['takes']}" + (f", since {found['since']}" if found["since"] else "")
    return Outcome(MEASURED, message=message, figures=found)


def _machine(device: jax.Device) -> dict[str, Any]:
    stats = device.memory_stats() or {}
    return {
        "platform": device.platform,
        "kind": device.device_kind,
        "processor": _processor(),
        "devices": jax.local_device_count(),
        "memory_bytes": stats.get("bytes_limit", available_bytes(device)),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "backend": backend.get_backend().platform_version,
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """The maker's name of the processor, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _hint(device: jax.Device) -> str:
    """A word where a card is there that JAX does not use."""
    if device.platform == "cpu" and Path("/dev/nvidia0").exists() and "cpu" not in os.environ.get("JAX_PLATFORMS", ""):
        return "there is an NVIDIA card, but JAX runs on the CPU: pip install 'jaxsae[gpu]', and see what JAX warns of"
    return ""
