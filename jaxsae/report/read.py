"""What the directory of a run, or of a set of runs, holds, as far as it is there."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from jaxsae.errors import InputError
from jaxsae.training.run import SET_FLAGS
from jaxsae.training.sets import runs_in

BENCHMARK = "benchmark.json"  # what `jaxsae benchmark` found of a run's step, where somebody asked it


@dataclasses.dataclass(frozen=True)
class RunFiles:
    """The files of a run.

    Attributes:
      path: its directory. flags: {name: value} of config.flags, empty for an imported dictionary.
      flags_text: config.flags as it is. metrics: lines of metrics.jsonl. summary: run.json.
      evaluations: {suite: eval/<suite>.json}. benchmark: benchmark.json, empty where there is none.
    """

    path: Path
    flags: dict[str, str]
    flags_text: str
    metrics: list[dict[str, Any]]
    summary: dict[str, Any]
    evaluations: dict[str, dict[str, Any]]
    benchmark: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def imported(self) -> bool:
        """Whether the dictionary came from other files instead of a training run."""
        return not self.flags_text


def read_run(path: Path) -> RunFiles:
    """Reads a run's small files.

    Raises:
      InputError: no such directory, not a run, nothing trained in it yet, a damaged file.
    """
    if not path.is_dir():
        raise InputError(f"--run={path}: no such directory. Give the --workdir of a `jaxsae train`.")
    flags = path / "config.flags"
    text = flags.read_text(encoding="utf-8", errors="replace") if flags.is_file() else ""
    if not text and not (path / "checkpoints").is_dir():
        raise InputError(f"--run={path}: not a run: no config.flags and no checkpoints/. Give a --workdir.")
    metrics = _metrics(path / "metrics.jsonl")
    if text and not metrics:
        raise InputError(
            f"--run={path}: metrics.jsonl is missing or empty: train first, `jaxsae train --flagfile={flags}`."
        )
    of = lambda name: _object(path / name) if (path / name).is_file() else {}
    return RunFiles(path, _flags(text), text, metrics, of("run.json"), _evaluations(path), of(BENCHMARK))


@dataclasses.dataclass(frozen=True)
class SetFiles:
    """The files of a set.

    Attributes:
      path: its directory. flags, flags_text: of each.flags. runs: in the order in which the model comes to their sites.
      evaluations: {suite: eval/<suite>.json}, of all of them together.
    """

    path: Path
    flags: dict[str, str]
    flags_text: str
    runs: list[RunFiles]
    evaluations: dict[str, dict[str, Any]]


def read_set(path: Path) -> SetFiles:
    """Reads the small files of a set and of its runs.

    Raises:
      InputError: no run has begun, one of them cannot be read.
    """
    flags = path / SET_FLAGS  # which an imported set has none of
    text = flags.read_text(encoding="utf-8", errors="replace") if flags.is_file() else ""
    runs = [read_run(run) for run in runs_in(path)]
    if not runs:
        raise InputError(f"--run={path}: no run has begun: train first, `jaxsae train --flagfile={path / SET_FLAGS}`.")
    return SetFiles(path, _flags(text), text, runs, _evaluations(path))


def _evaluations(path: Path) -> dict[str, dict[str, Any]]:
    return {file.stem: _object(file) for file in sorted((path / "eval").glob("*.json"))}


def _flags(text: str) -> dict[str, str]:
    lines = [line.strip() for line in text.splitlines()]
    pairs = [line[2:].partition("=") for line in lines if line.startswith("--")]
    return {name: value for name, _, value in pairs}


def _metrics(path: Path) -> list[dict[str, Any]]:
    """The complete lines; one that a kill cut short is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines


def _object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}). Run the command that wrote it again.") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: holds a {type(value).__name__}, not an object. Run the command that wrote it again.")
    return value
