"""What was measured of a dictionary, as sections of Markdown: figures beside their baselines, intervals and samples."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxsae.evaluate.config import SUITES
from jaxsae.exchange.publish_names import without_paths
from jaxsae.numbers import is_number

NONE = "\N{EN DASH}"  # a figure that is not defined


def sections(run: Path, tokens: Any, k: int | None, heading: str = "##") -> list[str]:
    """A section for each suite that judged these weights, and a line on those that judged others.

    Args:
      run: the run, or the set. tokens: those that the weights were trained on, by which files of others are told; None: any.
      k: latents of a row where the export has another number than the run.
    """
    found, others = evaluations(run, tokens, k)
    lines = [part for suite in found.values() for part in _section(suite["summary"], heading)]
    if others:
        lines += [
            f"Not shown: {', '.join(others)}, which "
            f"{'is' if len(others) == 1 else 'are'} of other weights or of an older jaxsae.",
            "",
        ]
    return lines


def evaluations(run: Path, tokens: Any, k: int | None) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """{suite: its JSON} of the weights at hand, in the suites' order, and the names of the files that are left out."""
    suffix = "" if k is None else f"_k{k}"
    found, others = {}, []
    for suite in SUITES:
        path = run / "eval" / f"{suite}{suffix}.json"
        if not path.is_file():
            continue
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            value = None
        whole = isinstance(value, dict) and isinstance(value.get("summary"), dict) and "says" in value["summary"]
        if whole and (tokens is None or value.get("trained_tokens", tokens) == tokens):
            found[suite] = value
        else:
            others.append(path.name)
    return found, others


def shown(value: Any, percent: bool = False) -> str:
    """A figure in a table."""
    if not is_number(value):
        return NONE
    if percent:
        return f"{value:.2%}"
    if isinstance(value, int) or (abs(value) >= 1000 and value == round(value)):
        return f"{round(value):,}"
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1000 else f"{value:.3g}"


def _section(summary: Mapping[str, Any], heading: str) -> list[str]:
    """One suite: what it says, its figures, what it does not say."""
    lines = [f"{heading} {_text(summary.get('title', ''))}", "", _text(summary["says"]), ""]
    if figures := summary.get("figures"):
        sample = f"On {_text(summary['sample'])}." if summary.get("sample") else ""
        lines += [*([sample, ""] if sample else []), "| figure | value | 95% interval | beside | how it is counted |"]
        lines += ["| --- | --- | --- | --- | --- |", *map(_row, figures), ""]
    if summary.get("limits"):
        lines += [f"*{_text(summary['limits'])}*", ""]
    return lines


def _row(figure: Mapping[str, Any]) -> str:
    percent = bool(figure.get("percent"))
    interval = figure.get("interval")
    ends = " to ".join(shown(end, percent) for end in interval) if interval else NONE
    baselines = figure.get("baselines") or {}
    beside = ", ".join(f"{name.replace('_', ' ')} {shown(value, percent)}" for name, value in baselines.items())
    cells = (figure["name"], shown(figure.get("value"), percent), ends, beside or NONE, figure.get("note") or NONE)
    return f"| {' | '.join(_text(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def _text(text: Any) -> str:
    return without_paths(str(text)).replace("\n", " ")
