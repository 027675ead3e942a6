"""`jaxsae benchmark`: the figures, on the screen and as JSON."""

from typing import Any

import jax

from jaxsae.benchmark.clock import Timing, time_in_turn
from jaxsae.benchmark.config import BenchmarkConfig
from jaxsae.benchmark.loader import benchmark_loader
from jaxsae.benchmark.peers import compare
from jaxsae.benchmark.step import TimedStep
from jaxsae.config import to_dict
from jaxsae.files import check_writable, write_json
from jaxsae.parallel import check_divides, make_mesh
from jaxsae.progress import say

STEPS = 15  # timed, where --repeats does not say
# Dense bfloat16 peak of one device in FLOP/s, from the makers' data sheets, by a part of its name.
PEAK_FLOPS = {
    "H200": 989e12,
    "H100": 989e12,
    "A100": 312e12,
    "TPU v6": 918e12,
    "TPU v5p": 459e12,
    "TPU v5 lite": 197e12,
    "TPU v4": 275e12,
}


def benchmark(config: BenchmarkConfig) -> dict[str, Any]:
    """Times a step as training runs it with `--dead_fraction` of the latents dead, or a harvest; prints and returns figures.

    Raises:
      InputError: sizes that do not divide over the mesh or do not fit, a file for the figures that cannot be written.
    """
    if config.json:
        check_writable("json", config.json)
    if config.what == "harvest":
        from jaxsae.benchmark.harvest import benchmark_harvest  # imports torch

        return benchmark_harvest(config)
    if config.what == "loader":
        figures = benchmark_loader(config)
        if config.json:
            write_json(config.json, figures)
        return figures
    mesh = make_mesh(config.mesh)
    check_divides(mesh, config.method.width, config.rows_of_a_batch)
    timed = TimedStep(config, mesh)
    timings = time_in_turn(timed.calls(), config.repeats or STEPS)
    figures = step_figures(timed, timings) | timed.memory()
    figures["device"] = mesh.devices.flat[0].device_kind
    figures["mesh"] = list(mesh.devices.shape)
    figures |= _roofline(config, timings["step"].seconds, mesh.devices.flat[0].device_kind, mesh.size)
    del timed  # its memory, before the others start
    if config.compare:
        figures["peers"] = compare(config, figures)
    _show(figures)
    if config.json:
        write_json(config.json, figures)
    return figures


def step_figures(timed: TimedStep, timings: dict[str, Timing]) -> dict[str, Any]:
    """What timings of a step and its parts come to, in the state that it was in; parts that were not timed are left out."""
    config, step, floor = timed.config, timings["step"], timings["floor"].times(timed.floor_parts)
    parts = {name: vars(timings[name]) for name in ("encode", "decode", "gradients") if name in timings}
    if "gradients" in timings:
        parts["update"] = {name: vars(step)[name] - vars(timings["gradients"])[name] for name in vars(step)}
    return {
        "flags": to_dict(config) | {"dead_fraction": timed.dead},
        "dead_fraction": timed.dead_share,
        "jax": jax.__version__,
        "repeats": config.repeats or STEPS,
        "step_seconds": step.seconds,
        "floor_seconds": floor.seconds,
        "step_over_floor": step.seconds / floor.seconds,
        "step_cpu_seconds": step.cpu_seconds,
        "floor_cpu_seconds": floor.cpu_seconds,
        "step_cpu_over_floor": step.cpu_seconds / floor.cpu_seconds,
        "tokens_per_second": config.rows_of_a_batch / step.seconds,
        "parts": parts,
    }


def _roofline(config: BenchmarkConfig, seconds: float, device: str, devices: int) -> dict[str, float]:
    """The share of the devices' peak that the encoder's matmul alone would need, where the peak is known."""
    peak = next((flops for name, flops in PEAK_FLOPS.items() if name in device), None)
    if peak is None or config.compute_dtype != "bfloat16":
        return {}
    needed = 2 * config.rows_of_a_batch * config.d_model * config.method.width
    return {"roofline_fraction": needed / (peak * devices) / seconds}


def _show(figures: dict[str, Any]) -> None:
    floor, floor_cpu = figures["floor_seconds"], figures["floor_cpu_seconds"]
    say(f"{'':<22}{'wall ms':>10}{'CPU ms':>10}{'wall/floor':>12}{'CPU/floor':>12}")
    rows = {"encoder matmul (floor)": {"seconds": floor, "cpu_seconds": floor_cpu}}
    rows |= {f"  {name}": part for name, part in figures["parts"].items()}
    rows["whole step"] = {"seconds": figures["step_seconds"], "cpu_seconds": figures["step_cpu_seconds"]}
    rows |= {name: peer for name, peer in figures.get("peers", {}).items() if "seconds" in peer}
    for name, row in rows.items():
        wall, cpu = row["seconds"], row["cpu_seconds"]
        say(f"{name:<22}{wall * 1e3:>10.1f}{cpu * 1e3:>10.1f}{wall / floor:>12.2f}{cpu / floor_cpu:>12.2f}")
    for name, peer in figures.get("peers", {}).items():
        if "skipped" in peer:
            say(f"{name}: not timed. {peer['skipped']}")
    asked = figures["flags"]["dead_fraction"]
    shares = {"jaxsae": figures["dead_fraction"]}
    shares |= {name: peer["dead_fraction"] for name, peer in figures.get("peers", {}).items() if "seconds" in peer}
    say(f"{shares['jaxsae']:.1%} of the latents dead")
    for name, share in shares.items():
        if abs(share - asked) > 0.01 + 0.1 * asked:
            say(
                f"WARNING: {share:.1%} of {name}'s latents were dead at the end, not --dead_fraction={asked:g}: too few live"
            )
    say(f"{figures['tokens_per_second']:,.0f} tokens/s; temporaries {figures['temp_bytes'] / 2**20:,.0f} MiB, ")
    say(f"peak {figures['peak_memory_bytes'] / 2**20:,.0f} MiB on {figures['device']}, mesh {figures['mesh']}")
    if "roofline_fraction" in figures:
        say(f"{figures['roofline_fraction']:.0%} of the encoder matmul's roofline")
