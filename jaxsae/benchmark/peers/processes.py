"""Packages timed in turn, each step in a process of its own."""

import dataclasses
import importlib.util
import json
import re
import subprocess
from typing import Any

from jaxsae import interpreter
from jaxsae.benchmark.config import BenchmarkConfig
from jaxsae.benchmark.peers.base import Sizes
from jaxsae.benchmark.peers.table import TABLE


def compare(config: BenchmarkConfig, ours: dict[str, Any]) -> dict[str, Any]:
    """Times the packages of `config.compare` in turn, in the first of the config's states.

    One that does not train the architecture, or is not installed, says so.

    Args:
      ours: figures of our step in that state, as `step_figures` gives them.

    Returns:
      variant -> seconds, cpu_seconds, and their ratios to our step; or package or variant -> why it was skipped.
    """
    out: dict[str, Any] = {}
    for package in config.compare:
        steps = TABLE[package].steps
        if config.method.architecture not in steps:
            out[package] = {"skipped": f"it does not train {config.method.architecture}, but {', '.join(steps)}"}
            continue
        if not is_installed(package):
            out[package] = {"skipped": "not installed: pip install 'jaxsae[interop]'"}
            continue
        for variant in steps[config.method.architecture]:
            out[variant] = _time_in_process(package, variant, config, ours)
    return out


def is_installed(package: str) -> bool:
    """Whether a package of `TABLE`, and torch, can be imported here."""
    return all(importlib.util.find_spec(name) is not None for name in (TABLE[package].module, "torch"))


def sizes_of(config: BenchmarkConfig) -> Sizes:
    """What the packages' steps are made for."""
    method = config.method
    return Sizes(
        d_model=config.d_model,
        width=method.width,
        k=method.k,
        target_l0=method.l0_target,
        prefixes=method.nested_prefixes,
        batch_size=config.rows_of_a_batch,
        repeats=config.timed_steps,
        seed=config.seed,
        dead_fraction=config.dead_fractions[0],
    )


def _time_in_process(package: str, variant: str, config: BenchmarkConfig, ours: dict[str, Any]) -> dict[str, Any]:
    sizes = json.dumps(dataclasses.asdict(sizes_of(config)))
    names = package, config.method.architecture, variant
    command = interpreter.command("jaxsae.benchmark.peers.worker", *names, sizes)
    done = subprocess.run(command, env=interpreter.environment(), capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if re.match(r"[\w.]*(Error|Exception)", line)]
        return {"skipped": f"its step failed: {(errors or ['no message'])[0][:200]}"}
    timing = json.loads(done.stdout.strip().splitlines()[-1])
    timing["seconds_over_ours"] = timing["seconds"] / ours["step_seconds"]
    timing["cpu_seconds_over_ours"] = timing["cpu_seconds"] / ours["step_cpu_seconds"]
    return timing
