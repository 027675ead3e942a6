"""How long a step of a run takes, as `jaxsae benchmark --json=RUN/benchmark.json` found it, with and without dead latents."""

from collections.abc import Mapping
from typing import Any

from jaxsae.benchmark.config import BenchmarkConfig
from jaxsae.config import to_dict
from jaxsae.dictionary import SWITCHES, Dictionary
from jaxsae.report.figures import NONE, Group, Row
from jaxsae.report.read import BENCHMARK, RunFiles

TITLE = "A training step"
DEFAULTS = to_dict(BenchmarkConfig())
# Flags of `train` that change what a step does, beside the method's; `benchmark` has the same.
OF_A_STEP = ("batch_size", "compute_dtype", "optimizer", "lazy_rows")


def speed(run: RunFiles, dictionary: Dictionary) -> Group | None:
    """The group of the page; None for a dictionary that was not trained here, or whose step no command times."""
    if run.imported or dictionary.config.layers > 1:
        return None
    flags = {"d_model": str(dictionary.d_model)} | _flags(run)
    told = [f"--{name}={value}" for name, value in flags.items() if value != _text(DEFAULTS[name])]
    command = " ".join(["jaxsae benchmark", *told, f"--json={run.path / BENCHMARK}"])
    states = run.benchmark.get("states") or []
    others = _others(states[0].get("flags", {}), flags) if states else {}
    if not states or others:
        return Group(TITLE, missing=command, why=_why(others))
    mesh = "x".join(map(str, states[0].get("mesh", ())))
    return Group(
        TITLE, f"{states[0].get('device')}, mesh {mesh}, jax {states[0].get('jax')}", [_row(s) for s in states]
    )


def _flags(run: RunFiles) -> dict[str, str]:
    """Those of the run that a step depends on; what its file leaves out is the default."""
    architecture = run.flags.get("architecture", "topk")
    wanted = ("architecture", "width", *SWITCHES.get(architecture, ()), *OF_A_STEP)
    return {name: run.flags.get(name) or _text(DEFAULTS[name]) for name in wanted}


def _text(value: Any) -> str:
    """As a flag file has it."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _others(found: Mapping[str, Any], flags: Mapping[str, str]) -> dict[str, Any]:
    """Flags that a benchmark was made with and this run was not."""
    return {name: found.get(name) for name, value in flags.items() if _text(found.get(name)) != value}


def _why(others: Mapping[str, Any]) -> str:
    if not others:
        return "Not timed"
    return f"{BENCHMARK} is of another step ({', '.join(f'--{name}={_text(value)}' for name, value in others.items())})"


def _row(state: Mapping[str, Any]) -> Row:
    dead, ratio = state.get("flags", {}).get("dead_fraction"), state.get("step_cpu_over_floor")
    beside = {"the encoder's matmul": milliseconds(state.get("floor_seconds"))}
    beside |= {
        name: milliseconds(peer.get("seconds")) for name, peer in state.get("peers", {}).items() if "seconds" in peer
    }
    label = f"{dead:.0%} of the latents dead" if dead else "no latent dead"
    note = f"{ratio:.2f} times the CPU seconds of that matmul" if ratio else ""
    return Row(label, milliseconds(state.get("step_seconds")), beside, note)


def milliseconds(seconds: Any) -> str:
    """Of a step."""
    return f"{1e3 * seconds:,.1f} ms" if isinstance(seconds, int | float) else NONE
