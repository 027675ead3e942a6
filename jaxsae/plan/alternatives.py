"""What to change where a step does not fit, each change with the memory that it comes to.

State, gradients and batches are exact. The workspace is not compiled again: what of it is by latent follows
the latents of a device, what is left follows the rows; both are marked as estimates.
"""

import dataclasses
from typing import Any

from jaxsae.plan.config import PlanConfig
from jaxsae.plan.topology import Topology
from jaxsae.training.memory import local_bytes
from jaxsae.training.program import Program

CHEAPER = {"adam": ("adam_bf16", "adam_factored", "sign"), "adam_bf16": ("sign",), "adam_factored": ("sign",)}


def alternatives(config: PlanConfig, topology: Topology, program: Program, figures: dict[str, Any]) -> list[dict]:
    """Changes that take less: {"change": flags, "peak_bytes": estimate, "fits": bool}, the gentlest first."""
    found = []

    def offer(change: str, other: Program, width_scale: float = 1.0, row_scale: float = 1.0) -> None:
        workspace = figures["width_temporaries"] * width_scale
        workspace += (figures["temporaries"] - figures["width_temporaries"]) * row_scale
        peak = round(sum(_standing(other)) + workspace)
        found.append({"change": change, "peak_bytes": peak, "fits": peak <= topology.chip.memory})

    data, model = program.mesh.devices.shape
    for name in CHEAPER.get(config.optimization.optimizer, ()):
        optimization = dataclasses.replace(config.optimization, optimizer=name)
        offer(f"--optimizer={name}", _with(program, optimization=optimization))
    if data > 1 and config.method.width % (data * model) == 0:
        other = _resized(program, 1, data * model)
        offer(f"--mesh=1,{data * model}", other, 1 / data, data)
    half = config.batch_size // 2
    if half and half % data == 0:
        offer(f"--batch_size={half}", _with(program, batch_size=half, tokens=1000 * half), 1.0, 0.5)
    larger = topology
    while (larger := larger.larger()) is not None:
        more, rest = divmod(larger.count, data)
        if rest or config.method.width % more:
            continue
        mesh = f" --mesh={data},{more}" if config.mesh else ""
        offer(f"--topology={larger}{mesh}", _resized(program, data, more), model / more)
        if found[-1]["fits"]:
            break
    return found


def _standing(program: Program) -> list[int]:
    """Bytes of one device that stand all the time. A gradient is among the compiler's temporaries."""
    memory = dataclasses.replace(program.memory(), gradients=0)
    return [memory.total, local_bytes(program.abstract.mean)]


def _with(program: Program, **changes) -> Program:
    return dataclasses.replace(program, config=dataclasses.replace(program.config, **changes))


def _resized(program: Program, data: int, model: int) -> Program:
    """On a mesh of another shape, which no devices are needed to count bytes with."""
    mesh = program.mesh.abstract_mesh.update(axis_sizes=(data, model))
    return dataclasses.replace(program, mesh=mesh)
