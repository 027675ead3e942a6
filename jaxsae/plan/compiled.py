"""Compiles the trainer's step for devices that are not there, in a process of its own.

The process is needed for three things: flags that XLA and libtpu read once, when they are loaded; their chatter;
and libtpu's way of ending the process where it meets what it did not expect.
"""

import dataclasses
import glob
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

from tqdm import tqdm

from jaxsae import interpreter
from jaxsae.config import from_dict, to_dict
from jaxsae.errors import InputError
from jaxsae.plan.config import PlanConfig

MODULE = "jit__device_step"


def compile_step(config: PlanConfig) -> dict[str, Any]:
    """What the compiler says of the step, as `_main` collects it.

    Raises:
      InputError: what `_main` found wrong with the input.
      RuntimeError: the compiler failed otherwise; the message ends with its last lines.
    """
    with tempfile.TemporaryDirectory(prefix="jaxsae-plan-") as folder:
        environment = interpreter.environment(
            {
                "JAX_PLATFORMS": "cpu",
                "TF_CPP_MIN_LOG_LEVEL": "3",
                # The dump brings the account of memory.
                "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={folder}/dump",
            }
        )
        command = interpreter.command("jaxsae.plan.compiled", json.dumps(to_dict(config)), f"{folder}/result.json")
        with open(f"{folder}/errors", "w+", encoding="utf-8") as errors:
            child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=errors)
            _wait(child, f"compiling for {config.topology}")
            errors.seek(0)
            said = errors.read()
        if not os.path.exists(f"{folder}/result.json"):
            raise RuntimeError(f"the compiler ended with status {child.returncode}:\n{said[-3000:]}")
        with open(f"{folder}/result.json", encoding="utf-8") as file:
            result = json.load(file)
    if "refused" in result:
        raise InputError(result["refused"])
    return result


def _wait(child: subprocess.Popen, text: str) -> None:
    """Until the child ends; on a terminal the seconds pass by. A compiler says nothing of what is left."""
    try:
        with tqdm(desc=text, bar_format="{desc}: {elapsed}", disable=not sys.stderr.isatty(), leave=False) as bar:
            while child.poll() is None:
                time.sleep(0.2)
                bar.update()
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


def _main(config: PlanConfig, folder: str) -> dict[str, Any]:
    """Compiles and reads; everything is in bytes and of one device."""
    import jax

    from jaxsae.dictionary import Widths
    from jaxsae.parallel import check_divides, make_mesh
    from jaxsae.plan.alternatives import alternatives
    from jaxsae.plan.buffers import read_report, shape_bytes, show_shape
    from jaxsae.plan.collectives import find_collectives
    from jaxsae.plan.topology import Topology
    from jaxsae.training.program import Program

    topology = Topology.of(config.topology)
    try:
        devices = topology.devices()
    except jax.errors.JaxRuntimeError as error:
        raise InputError(f"--topology={topology}: {str(error).splitlines()[0]}") from None
    mesh = make_mesh(config.mesh, devices)
    check_divides(mesh, config.method.width, config.batch_size)
    program = Program(config.training(), Widths.of(config.d_model), mesh)
    started = time.perf_counter()
    lowered = program.lower()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error) or "memory space vmem" in str(error):
            raise  # a kernel's fault, whatever the chip's memory
        compiled = None  # too large; its text and its account of memory are there all the same
    seconds = time.perf_counter() - started
    text = compiled.as_text() if compiled else _read(folder, "*after_optimizations.txt")
    buffers = read_report(_read(folder, "*memory-usage-report.txt"))
    memory, width = program.memory(), config.method.width // mesh.devices.shape[1]
    arguments = _arguments(program)
    temporaries = max(0, buffers.total - arguments)
    figures = {
        "mesh": list(mesh.devices.shape),
        "device_kind": devices[0].device_kind,
        "compile_seconds": seconds,
        "memory": {name: value for name, value in dataclasses.asdict(memory).items() if value is not None},
        "forms_gradient": program.forms_gradient,
        "temporaries": temporaries,
        "width_temporaries": min(temporaries, buffers.width_share(width)),
        "refused_by_compiler": compiled is None,
        "collectives": [dataclasses.asdict(c) | {"moved": c.moved} for c in find_collectives(text, mesh.size)],
        "encoders": program.encoders(),
        "custom_kernels": _custom_kernels(text),
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


def _read(folder: str, pattern: str) -> str:
    """The dump's newest file of the step that matches."""
    files = [f for f in glob.glob(os.path.join(folder, "dump", pattern)) if MODULE in f]
    if not files:
        raise RuntimeError(f"the compiler wrote no {pattern}")
    with open(max(files, key=os.path.getmtime), encoding="utf-8") as file:
        return file.read()


if __name__ == "__main__":
    target = sys.argv[2]
    interpreter.end_with_parent()
    try:
        outcome = _main(from_dict(PlanConfig, json.loads(sys.argv[1])), os.path.dirname(target))
    except InputError as error:
        outcome = {"refused": str(error)}
    with open(target, "w", encoding="utf-8") as file:
        json.dump(outcome, file)
