"""A compiler in a process of its own, and what it leaves there to be read.

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
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from jaxsae import interpreter
from jaxsae.config import from_dict, to_dict
from jaxsae.errors import InputError
from jaxsae.plan.buffers import Buffers, read_report
from jaxsae.plan.config import PlanConfig

if TYPE_CHECKING:
    import jax


def compile_in_child(module: str, config: PlanConfig, what: str) -> dict[str, Any]:
    """What a module of ours, run as a program, finds out.

    Args:
      module: one that ends in `child_main`. what: it compiles, for people.

    Raises:
      InputError: what it found wrong with the input.
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
        command = interpreter.command(module, json.dumps(to_dict(config)), f"{folder}/result.json")
        with open(f"{folder}/errors", "w+", encoding="utf-8") as errors:
            child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=errors)
            _wait(child, f"compiling {what} for {config.topology}")
            errors.seek(0)
            said = errors.read()
        if not os.path.exists(f"{folder}/result.json"):
            raise RuntimeError(f"the compiler ended with status {child.returncode}:\n{said[-3000:]}")
        with open(f"{folder}/result.json", encoding="utf-8") as file:
            result = json.load(file)
    if "refused" in result:
        raise InputError(result["refused"])
    return result


def child_main(main: Callable[[PlanConfig, str], dict[str, Any]]) -> None:
    """What such a module does: `main` of the flags and of the folder that holds the compiler's dump."""
    target = sys.argv[2]
    interpreter.end_with_parent()
    try:
        outcome = main(from_dict(PlanConfig, json.loads(sys.argv[1])), os.path.dirname(target))
    except InputError as error:
        outcome = {"refused": str(error)}
    with open(target, "w", encoding="utf-8") as file:
        json.dump(outcome, file)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A program that was compiled, or refused as too large, and what the compiler wrote of it either way."""

    seconds: float
    refused: bool
    text: str
    buffers: Buffers


def compile_lowered(lowered: "jax.stages.Lowered", folder: str, module: str) -> Outcome:
    """Compiles.

    Args:
      module: HLO's name of the program, by which its files in the dump are told from others.

    Raises:
      jaxlib's JaxRuntimeError: the compiler failed, and not for want of memory.
    """
    import jax

    started = time.perf_counter()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error) or "memory space vmem" in str(error):
            raise  # a kernel's fault, whatever the chip's memory
        compiled = None  # too large; its text and its account of memory are there all the same
    seconds = time.perf_counter() - started
    text = compiled.as_text() if compiled else _read(folder, module, "*after_optimizations.txt")
    buffers = read_report(_read(folder, module, "*memory-usage-report.txt"))
    return Outcome(seconds, compiled is None, text, buffers)


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


def _read(folder: str, module: str, pattern: str) -> str:
    """The dump's newest file of a program that matches."""
    files = [f for f in glob.glob(os.path.join(folder, "dump", pattern)) if module in f]
    if not files:
        raise RuntimeError(f"the compiler wrote no {pattern}")
    with open(max(files, key=os.path.getmtime), encoding="utf-8") as file:
        return file.read()
