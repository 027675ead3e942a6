"""What a run's directory holds, as far as it is there."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from jaxsae.errors import InputError

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
    evaluations = {file.stem: _object(file) for file in sorted((path / "eval").glob("*.json"))}
    return RunFiles(path, _flags(text), text, metrics, of("run.json"), evaluations, of(BENCHMARK))


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
