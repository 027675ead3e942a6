"""Sections of the page that suites describe themselves: a sentence, its limits, figures, tables, plots and boards as data.

What a suite found stands in its JSON under `summary`, as `evaluate/summary.py` has it; nothing here knows a suite.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from jaxsae.evaluate.config import SUITES
from jaxsae.numbers import is_number
from jaxsae.report import boards, finding_plots
from jaxsae.report.figures import NONE, Row, count, decimal, percent
from jaxsae.report.read import RunFiles

# Whose figures the page has in groups of their own; of these only what is drawn is added.
GROUPED = ("reconstruction", "splice", "effective_compute", "othello", "decomposability")


@dataclasses.dataclass(frozen=True)
class Finding:
    """A section.

    Attributes:
      rows: figures beside baselines. tables: (title, note, columns, rows of cells).
      pictures: (title, plot or board).
    """

    suite: str
    title: str
    sample: str
    says: str
    limits: str
    rows: list[Row]
    tables: list[tuple[str, str, list[str], list[list[str]]]]
    pictures: list[tuple[str, Markup]]


def findings(run: RunFiles) -> list[Finding]:
    """One for each suite that was evaluated and has something to show beside the page's own groups."""
    place = {name: number for number, name in enumerate(SUITES)}
    evaluated = sorted(run.evaluations.items(), key=lambda item: place.get(item[0], len(place)))
    found = [_finding(suite, e.get("summary") or _plain(suite, e)) for suite, e in evaluated]
    return [f for f in found if f.rows or f.tables or f.pictures or f.suite not in GROUPED]


def _plain(suite: str, e: Mapping[str, Any]) -> dict[str, Any]:
    """Of files that hold no summary, such as older ones: their numbers."""
    return {
        "title": suite,
        "figures": [{"name": name, "value": value} for name, value in e.items() if is_number(value)],
    }


def _finding(suite: str, summary: Mapping[str, Any]) -> Finding:
    rows = [] if suite in GROUPED else [_row(figure) for figure in summary.get("figures", [])]
    tables = [
        (t["title"], t.get("note", ""), [str(c) for c in t["columns"]], [_cells(row) for row in t["rows"]])
        for t in summary.get("tables", [])
    ]
    name = lambda i, kind: f"{suite}-{kind}-{i}"
    pictures = [(p["title"], finding_plots.draw(name(i, "plot"), p)) for i, p in enumerate(summary.get("plots", []))]
    pictures += [(b["title"], boards.figure_board(b)) for b in summary.get("boards", [])]
    told = ("title", "sample") if suite in GROUPED else ("title", "sample", "says", "limits")  # a group says it once
    parts = {"says": "", "limits": ""} | {part: summary.get(part, "") for part in told}
    return Finding(suite, **parts, rows=rows, tables=tables, pictures=pictures)


def _row(figure: Mapping[str, Any]) -> Row:
    show = percent if figure.get("percent") else shown
    note = figure.get("note", "")
    if interval := figure.get("interval"):
        ends = f"95% interval {show(interval[0])} to {show(interval[1])}"
        note = f"{note}; {ends}" if note else ends
    baselines = {name.replace("_", " "): show(value) for name, value in figure.get("baselines", {}).items()}
    return Row(figure["name"], show(figure["value"]), baselines, note)


def shown(value: Any) -> str:
    """Whole numbers as they are, others with four decimals, small and large ones with three digits."""
    if not is_number(value):
        return NONE
    if isinstance(value, int) or (abs(value) >= 1000 and value == round(value)):
        return count(value)
    return decimal(value) if value == 0 or 1e-3 <= abs(value) < 1000 else f"{value:.3g}"


def _cells(row: Sequence[Any]) -> list[str]:
    """Of a row, the first of which is a name, though it be a latent's number."""
    return [str(row[0]), *map(cell, row[1:])] if type(row[0]) is int else list(map(cell, row))


def cell(value: Any) -> str:
    """What stands in a table: words as they are, pairs as intervals."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return f"{shown(value[0])} to {shown(value[1])}" if len(value) == 2 else ", ".join(map(cell, value))
    return ("yes" if value else "no") if isinstance(value, bool) else shown(value)
