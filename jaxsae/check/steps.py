"""The training step at shapes that suit the device, against its own encoder matmul, the device's ceilings, and peers."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jaxsae.benchmark import BenchmarkConfig
from jaxsae.benchmark.clock import time_in_turn
from jaxsae.benchmark.config import DEAD, StepMethodConfig
from jaxsae.benchmark.peers import compare
from jaxsae.benchmark.run import step_figures
from jaxsae.benchmark.step import TimedStep
from jaxsae.check.encoders import own_dtype
from jaxsae.check.findings import MEASURED, SKIPPED, Outcome
from jaxsae.check.item import Check, shapes_of
from jaxsae.check.machine import choice
from jaxsae.check.trace import operations
from jaxsae.errors import InputError, is_disk_full
from jaxsae.parallel import make_mesh
from jaxsae.training.config import OptimizerConfig
from jaxsae.training.memory import available_bytes
from jaxsae.training.optimizer import BYTES_PER_PARAMETER

OPTIMIZERS = ("adam", "adam_bf16")  # the first that fits
LEAST_WIDTH = 2**14  # below which a shape that does not fit is given up


@dataclasses.dataclass(frozen=True)
class Shape:
    """Of a step; `repeats`: how often it is timed."""

    d_model: int
    width: int
    batch: int
    k: int
    repeats: int

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Rows, d_model, width, k."""
        return self.batch, self.d_model, self.width, self.k

    @property
    def name(self) -> str:
        """As checks name it."""
        return f"d {self.d_model} n {self.width}"


ON_DEVICE = [Shape(d, n, 8192, 64, 10) for d, n in ((4096, 2**17), (4096, 2**20), (2304, 2**17), (2304, 2**20))]
ON_HOST = [Shape(128, 1024, 2048, 32, 9), Shape(384, 16_384, 2048, 32, 5)]


def shapes_for(platform: str) -> list[Shape]:
    """The shapes that are timed on a platform, the most telling first."""
    return ON_HOST if platform == "cpu" else ON_DEVICE


def config_of(shape: Shape, platform: str, dead: float, seed: int, optimizer: str = "adam") -> BenchmarkConfig:
    """The benchmark whose figures a check gives."""
    return BenchmarkConfig(
        d_model=shape.d_model,
        batch_size=shape.batch,
        repeats=shape.repeats,
        dead_fraction=dead,
        compute_dtype=own_dtype(platform),
        mesh=(1, 1),
        seed=seed,
        method=StepMethodConfig(width=shape.width, k=shape.k),
        optimization=OptimizerConfig(optimizer=optimizer),
    )


def least_bytes(shape: Shape, platform: str, optimizer: str) -> int:
    """What a step holds on one device: weights and moments; on a GPU their gradient, and as much again in copies of XLA's."""
    numbers = 2 * shape.width * shape.d_model
    return numbers * (4 + BYTES_PER_PARAMETER[optimizer] + (8 if platform == "gpu" else 0))


def checks(device: jax.Device, shape: Shape) -> Iterator[Check]:
    """The shape's step with no latent dead, then with a tenth of them dead."""
    shapes = shapes_of(*shape.sizes, own_dtype(device.platform))
    kept: dict[tuple[int, str], TimedStep] = {}  # compiled once for both states
    for dead in DEAD:
        run = functools.partial(_run, device, shape, dead, kept)
        yield Check(f"step {shape.name} {dead:.0%} dead", "steps", "jaxsae", shapes | {"dead_fraction": dead}, run)


def _run(device: jax.Device, shape: Shape, dead: float, kept: dict, rng: np.random.Generator) -> Outcome:
    seed, reasons, room = int(rng.integers(2**31)), [], available_bytes(device)
    narrower = [shape.width >> halvings for halvings in range(20) if shape.width >> halvings >= LEAST_WIDTH]
    for width, optimizer in list(kept) or [(w, o) for w in narrower or [shape.width] for o in OPTIMIZERS]:
        fitting, named = dataclasses.replace(shape, width=width), f"n {width} with {optimizer}"
        if not kept and room is not None and least_bytes(fitting, device.platform, optimizer) > room:
            reasons.append(f"{named} does not fit into {room / 2**30:.0f} GiB")
            continue
        try:
            if not kept:
                config = config_of(fitting, device.platform, 0.0, seed, optimizer)
                kept[width, optimizer] = TimedStep(config, make_mesh(config.mesh, [device]))
            timed = kept[width, optimizer]
            timed.kill(dead)
            return _measured(timed, device, reasons)
        except Exception as error:  # what does not fit is told by our own plan, the compiler or the allocator
            kept.clear()
            if not isinstance(error, InputError) and not is_out_of_memory(error):
                raise
            reasons.append(f"{named} does not fit: {str(error).splitlines()[0][:160]}")
    return Outcome(SKIPPED, message="; ".join(reasons))


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device had no room."""
    return is_disk_full(error) or "out of memory" in str(error).lower()


def _measured(timed: TimedStep, device: jax.Device, reasons: list[str]) -> Outcome:
    config, calls = timed.config, timed.calls()
    timings = time_in_turn({name: calls[name] for name in ("step", "floor")}, config.repeats)
    memory = timed.memory()
    figures: dict[str, Any] = {"optimizer": config.optimization.optimizer, "width": config.method.width}
    if device.platform != "cpu":
        figures["trace"] = _traced(calls["step"], reasons)
    # Where a trace tells where the time goes, two compilations are saved; and a gradient that stands alone may not fit.
    parts = ("encode",) if figures.get("trace", {}).get("operations") else ("encode", "decode", "gradients")
    for part in [name for name in parts if name in calls]:  # latents that do not go by pairs have two parts fewer
        try:
            timings |= time_in_turn({part: calls[part]}, config.repeats, warm_up=1)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            reasons.append(f"{part} alone does not fit")
    figures |= step_figures(timed, timings) | memory
    needed = 2 * config.rows_of_a_batch * config.d_model * config.method.width
    figures |= {"encoder_flops": needed, "flops_of_step": needed / timings["step"].seconds}
    sizes = config.rows_of_a_batch, config.d_model, config.method.width, config.method.k
    figures["encoder"] = choice(device, *sizes, config.compute_dtype)
    return Outcome(MEASURED, message="; ".join(reasons), figures=figures)


def _traced(step: Callable[[int], Any], reasons: list[str]) -> dict[str, Any]:
    """The trace of a step; a profiler that does not run here is no reason to lose the step's time."""
    try:
        return operations(step)
    except Exception as error:
        reasons.append(f"no trace: {type(error).__name__}: {str(error).splitlines()[0][:120]}")
        return {}


def peer_bytes(shape: Shape) -> int:
    """What a package that keeps float32 weights, gradient and Adam's moments, and two [B, n] arrays, needs at least."""
    return 2 * shape.width * shape.d_model * 16 + 2 * shape.batch * shape.width * 4


def peer_checks(
    shape: Shape, platform: str, packages: tuple[str, ...], ours: Callable[[float], dict], memory: int | None
) -> Iterator[Check]:
    """Steps of other packages at the same shape, in the same states.

    Args:
      ours: share of dead latents -> the figures of our step there, to be compared with; empty where it was not timed.
      memory: bytes of the device, where they are known.
    """
    for package in packages:
        for dead in DEAD:
            run = functools.partial(_run_peer, shape, platform, package, dead, ours, memory)
            shapes = shapes_of(*shape.sizes, "float32") | {"dead_fraction": dead}
            yield Check(f"step {shape.name} {dead:.0%} dead, {package}", "steps", package, shapes, run)


def _run_peer(
    shape: Shape, platform: str, package: str, dead: float, ours, memory, rng: np.random.Generator
) -> Outcome:
    own = ours(dead)
    if not own:
        return Outcome(SKIPPED, message="our own step was not timed")
    if own["width"] != shape.width:
        shape = dataclasses.replace(shape, width=own["width"])
    if memory is not None and peer_bytes(shape) > memory:
        return Outcome(SKIPPED, message=f"it needs {peer_bytes(shape) / 2**30:.0f} GiB at least, more than there are")
    config = config_of(shape, platform, dead, int(rng.integers(2**31)))
    found = compare(dataclasses.replace(config, compare=(package,)), own)
    skipped = [f"{name}: {figures['skipped']}" for name, figures in found.items() if "skipped" in figures]
    timed = {name: figures for name, figures in found.items() if "seconds" in figures}
    status = MEASURED if timed else SKIPPED
    return Outcome(status, message="; ".join(skipped), figures={"variants": timed, "width": shape.width})
