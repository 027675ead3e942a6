"""`jaxsae benchmark`: the figures, as JSON and on the screen."""

import dataclasses
from typing import Any

import jax
from jax.sharding import Mesh

from jaxsae.benchmark.clock import Timing, time_in_turn
from jaxsae.benchmark.config import KNOWN, BenchmarkConfig
from jaxsae.benchmark.known.run import benchmark_known
from jaxsae.benchmark.loader import benchmark_loader
from jaxsae.benchmark.peers import compare
from jaxsae.benchmark.step import TimedStep
from jaxsae.benchmark.table import show
from jaxsae.config import to_dict
from jaxsae.files import check_writable, write_json
from jaxsae.parallel import check_divides, make_mesh

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
    """Times a step as training runs it, in each state of the config; or a harvest, or the loader; or judges methods by a
    dictionary that is known. Prints and returns figures.

    Of a step: the figures of the first state, and `states`, a list with the figures of each.

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
    elif config.what == KNOWN:
        figures = benchmark_known(config)
    else:
        mesh = make_mesh(config.mesh)
        check_divides(mesh, config.method.width, config.rows_of_a_batch)
        states = _time_ours(config, mesh)  # its memory is given back before the others start
        for state in states if config.compare else []:
            alone = dataclasses.replace(config, dead_fraction=state["flags"]["dead_fraction"])
            state["peers"] = compare(alone, state)
        for state in states:
            show(state)
        figures = states[0] | {"states": states}
    if config.json:
        write_json(config.json, figures)
    return figures


def _time_ours(config: BenchmarkConfig, mesh: Mesh) -> list[dict[str, Any]]:
    """The figures of our step in each state, by one compiled program: a state's timings are over before the next begins."""
    timed, states, device = TimedStep(config, mesh), [], mesh.devices.flat[0].device_kind
    for share in config.dead_fractions:
        timed.kill(share)
        timings = time_in_turn(timed.calls(), config.timed_steps)
        figures = step_figures(timed, timings) | timed.memory()
        figures |= {"device": device, "mesh": list(mesh.devices.shape)}
        states.append(figures | _roofline(config, timings["step"].seconds, device, mesh.size))
    return states


def step_figures(timed: TimedStep, timings: dict[str, Timing]) -> dict[str, Any]:
    """What timings of a step and its parts come to, in the state that it was in; parts that were not timed are left out."""
    config, step, floor = timed.config, timings["step"], timings["floor"].times(timed.floor_parts)
    parts = {name: vars(timings[name]) for name in ("encode", "decode", "gradients") if name in timings}
    if "gradients" in timings:
        parts["update"] = {name: vars(step)[name] - vars(timings["gradients"])[name] for name in vars(step)}
    return {
        "flags": to_dict(config) | {"dead_fraction": timed.dead},
        "dead_fraction": timed.dead_share,
        "route": timed.route,
        "dead_route": timed.dead_route,
        "jax": jax.__version__,
        "repeats": config.timed_steps,
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
