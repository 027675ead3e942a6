"""Compiles the trainer's step for devices that are not there, in a process of its own."""

import dataclasses
from typing import Any

from jaxsae.plan.child import child_main, compile_in_child, compile_lowered
from jaxsae.plan.config import PlanConfig

MODULE = "jit__device_step"


def compile_step(config: PlanConfig) -> dict[str, Any]:
    """What the compiler says of the step, as `_main` collects it; raises as `compile_in_child` does."""
    return compile_in_child("jaxsae.plan.compiled", config, "the step")


def _main(config: PlanConfig, folder: str) -> dict[str, Any]:
    """Compiles and reads; everything is in bytes and of one device."""
    from jaxsae.dictionary import Widths
    from jaxsae.parallel import check_divides, make_mesh
    from jaxsae.plan.alternatives import alternatives
    from jaxsae.plan.buffers import shape_bytes, show_shape
    from jaxsae.plan.collectives import find_collectives
    from jaxsae.plan.topology import Topology
    from jaxsae.training.program import Program

    topology = Topology.of(config.topology)
    devices = topology.devices()
    mesh = make_mesh(config.mesh, devices)
    check_divides(mesh, config.method.width, config.batch_size)
    program = Program(config.training(), Widths.of(config.d_model), mesh)
    outcome = compile_lowered(program.lower(), folder, MODULE)
    buffers = outcome.buffers
    memory, width = program.memory(), config.method.width // mesh.devices.shape[1]
    temporaries = max(0, buffers.total - _arguments(program))
    figures = {
        "mesh": list(mesh.devices.shape),
        "device_kind": devices[0].device_kind,
        "compile_seconds": outcome.seconds,
        "memory": {name: value for name, value in dataclasses.asdict(memory).items() if value is not None},
        "forms_gradient": program.forms_gradient,
        "temporaries": temporaries,
        "width_temporaries": min(temporaries, buffers.width_share(width)),
        "refused_by_compiler": outcome.refused,
        "collectives": [dataclasses.asdict(c) | {"moved": c.moved} for c in find_collectives(outcome.text, mesh.size)],
        "encoders": program.encoders(),
        "custom_kernels": _custom_kernels(outcome.text),
    }
    for name, shape in (
        ("largest", buffers.largest()),
        ("largest_of_batch", buffers.largest_of_batch(width, config.d_model)),
    ):
        figures[name] = {"shape": show_shape(shape), "bytes": shape_bytes(shape)} if shape else None
    return figures | {"alternatives": alternatives(config, topology, program, figures)}


def _arguments(program) -> int:
    """Bytes of state and batch; donated, the state's are those of the result too."""
    from jaxsae.training.memory import local_bytes

    return sum(map(local_bytes, (program.abstract, program.batch, program.abstract_pace)))


def _custom_kernels(text: str) -> list[str]:
    """Kernels of our own within the program, by their targets."""
    import re

    ours = ("tpu_custom_call", "mosaic_gpu", "__gpu$xla.gpu.triton")
    found = set(re.findall(r'custom_call_target="([^"]+)"', text))
    return sorted(name for name in found if name.startswith(ours))


if __name__ == "__main__":
    child_main(_main)
