"""What a suite says in one sentence, and what it does not: figures beside their baselines, tables and plots as data.

A suite's `summary(results)` makes one from its JSON; it goes into that JSON under `summary`, and the report draws it from
there, whatever the suite is.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

MORE, LESS = "more", "less"  # which way a figure is better; "": neither


@dataclasses.dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
      name: what it is, in the field's words; the same of every dictionary, since `bench` compares by it.
      value: None where it is not defined.
      interval: its 95% interval, where one was taken.
      better: MORE, LESS, or "" where neither is.
      baselines: {what it stands beside: value}.
      note: how it is counted, over how many.
      percent: whether it is shown as a percentage.
    """

    name: str
    value: float | None
    interval: Sequence[float] | None = None
    better: str = ""
    baselines: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    note: str = ""
    percent: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of words and numbers under `columns`; `note` says how to read it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Plot:
    """Lines, points or bars over x.

    Attributes:
      kind: "lines", "points" or "bars".
      x: numbers, or of bars words.
      series: {name: values, None where there is none}, each as long as x.
      intervals: {name: [low, high] for each of x, or None}.
      log_x, log_y: whether axes are logarithmic.
      guides: {name: y} of levels that are drawn across.
    """

    title: str
    x_label: str
    y_label: str
    x: Sequence[Any]
    series: Mapping[str, Sequence[float | None]]
    kind: str = "lines"
    intervals: Mapping[str, Sequence[Sequence[float] | None]] = dataclasses.field(default_factory=dict)
    log_x: bool = False
    log_y: bool = False
    guides: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Board:
    """A figure for each square of a board of 8 by 8, None where there is none, from `low` to `high`."""

    title: str
    values: Sequence[float | None]
    low: float = 0.0
    high: float = 1.0


@dataclasses.dataclass(frozen=True)
class Summary:
    """A suite's findings.

    Attributes:
      title: of its section. sample: on how much they were taken.
      says: one sentence with the figures of this dictionary in it. limits: one sentence of what they do not say.
    """

    title: str
    sample: str
    says: str
    limits: str
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    plots: Sequence[Plot] = ()
    boards: Sequence[Board] = ()


def as_json(summary: Summary) -> dict[str, Any]:
    """As it stands in a suite's JSON; empty parts are left out."""
    return {name: value for name, value in dataclasses.asdict(summary).items() if value not in ((), [], {}, "")}
