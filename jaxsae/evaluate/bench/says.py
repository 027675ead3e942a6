"""What `bench` says, in a table and in a sentence."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsae.evaluate.bench.board import PAIRED, l0_and_fvu
from jaxsae.evaluate.summary import LESS, Figure, Plot, Summary, Table

Results = Mapping[str, Any]


def names_of(results: Results) -> list[str]:
    """As they are shown: the last of a path's names, where that tells them apart."""
    given = results["dictionaries"]
    short = [Path(name).name for name in given]
    return short if len(set(short)) == len(short) else list(given)


def value(column: Results, number: float | None) -> str:
    """A figure as it is shown."""
    if number is None:
        return "-"
    return f"{number:.1%}" if column["percent"] else f"{number:.4g}" if abs(number) >= 100 else f"{number:.4f}"


def ends(column: Results, pair: Sequence[float | None] | None) -> str:
    """An interval as it is shown."""
    return "" if not pair else " [" + ", ".join(value(column, end) for end in pair) + "]"


def rank(pair: Sequence[int] | None) -> str:
    """A range of ranks."""
    return "" if pair is None else f" ({pair[0]})" if pair[0] == pair[1] else f" ({pair[0]}-{pair[1]})"


def title(column: Results) -> str:
    """What stands over a column."""
    arrow = {"less": " ↓", "more": " ↑"}.get(column["better"], "")
    return f"{column['figure']}{arrow}" + ("" if column["suite"] == PAIRED else f", {column['suite']}")


def cells(column: Results) -> list[str]:
    """Those of all dictionaries, with their ranks where they have some."""
    ranks = column["ranks"] if column["ranked"] else [None] * len(column["values"])
    return [
        value(column, v) + ends(column, e) + rank(r)
        for v, e, r in zip(column["values"], column["intervals"], ranks, strict=True)
    ]


def table(results: Results) -> list[str]:
    """A line for each figure, with a column for each dictionary."""
    names = names_of(results)
    rows = [["figure", *names], *([title(c), *cells(c)] for c in results["columns"])]
    rows.append(["mean rank", *("-" if m is None else f"{m:.2f}" for m in results["mean_rank"])])
    rows.append(["L0 and FVU", *("on the front" if on else "beaten" for on in results["front"])])
    sizes = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["   ".join(cell.ljust(size) for cell, size in zip(row, sizes, strict=True)).rstrip() for row in rows]
    unit = results["subject"]["unit"]
    lines.append(
        f"without a suite's name: the same {results['subject']['measured']} {unit}s for all, {results['predictions']:,} "
        f"predictions; in brackets 95% intervals, behind them ranks, a range where differences are within them, by value "
        "alone where there is no interval"
    )
    for column in results["columns"]:
        if column["paired"]:
            less = zip(names[1:], column["less"][1:], column["less_interval"][1:], strict=True)
            shown = "   ".join(f"{n} {value(column, d)}{ends(column, e)}" for n, d, e in less)
            lines.append(f"{column['figure']} less that of {names[0]}, paired: {shown}")
    return [*lines, *results["notes"], *_unequal(results)]


def _unequal(results: Results) -> list[str]:
    off = results["unequal_l0"]
    shown = ", ".join(f"{Path(name).name} {share:+.0%}" for name, share in off.items())
    return [f"L0 is not equal: {shown}. What is better at another L0 need not be better."] if off else []


def summary(results: Results) -> Summary:
    """Of the first dictionary among all."""
    names, ranks = names_of(results), results["mean_rank"]
    own, low_high = ranks[0], results["mean_rank_range"][0]
    best = min((r, n) for r, n in zip(ranks, names, strict=True) if r is not None)[1] if own is not None else names[0]
    whole = sum(c["ranked"] and None not in c["places"] for c in results["columns"])
    l0, fvu = l0_and_fvu(results["columns"])
    unit = results["subject"]["unit"]
    off = results["unequal_l0"]
    unequal = f" L0 differs by more than 5% in {len(off)} of them, whose figures are not to be ranked." if off else ""
    mean = (
        "no rank"
        if own is None
        else f"a mean rank of {own:.2f} ({low_high[0]:.2f} to {low_high[1]:.2f} within intervals)"
    )
    on = "lies on" if results["front"][0] else "is behind"
    return Summary(
        title="Among other dictionaries",
        sample=f"{len(names)} dictionaries, {results['subject']['measured']} {unit}s that all were run on",
        says=f"Of {len(names)} dictionaries {names[0]} has {mean} over {whole} figures, where {best} has the best, and with "
        f"an L0 of {l0[0]:.1f} and an FVU of {fvu[0]:.4f} it {on} the front of the two.{unequal}",
        limits="A mean of ranks weighs each figure alike, though several of them say one thing, and hides by how much one is "
        "better: look at the differences; each dictionary is one training, and another seed of the same may rank otherwise.",
        figures=[
            Figure("mean rank", own, low_high, LESS, note=f"of {len(names)} dictionaries, over {whole} figures"),
        ],
        tables=[_board(results, names), _differences(results, names)],
        plots=[_plot(results, names)],
    )


def _board(results: Results, names: Sequence[str]) -> Table:
    columns = results["columns"]
    by_column = [cells(c) for c in columns]
    rows = []
    for i, (given, name) in enumerate(zip(results["dictionaries"], names, strict=True)):
        about = results["about"][given]
        kind = f"{about['architecture']}, {about['width']:,}"
        mean = results["mean_rank"][i]
        last = "-" if mean is None else f"{mean:.2f}", "yes" if results["front"][i] else "no"
        rows.append([name, kind, *(column[i] for column in by_column), *last])
    for base in dict.fromkeys(name for c in columns for name in c["baselines"]):
        rows.append([base, "baseline", *(value(c, c["baselines"].get(base)) for c in columns), "", ""])
    heads = ["dictionary", "method, width", *map(title, columns), "mean rank", "on the front"]
    note = (
        "in brackets 95% intervals and ranks, by value alone where there is no interval; baselines are those of the first "
        "dictionary that has them"
    )
    return Table("Dictionaries by figures", heads, rows, note)


def _differences(results: Results, names: Sequence[str]) -> Table:
    rows = []
    for c in results["columns"]:
        shown = [value(c, d) + ends(c, e) for d, e in zip(c["less"][1:], c["less_interval"][1:], strict=True)]
        rows.append([title(c), *shown, "paired" if c["paired"] else "unpaired"])
    note = "paired: of the same sequences, by each; unpaired: as if they were of others, and so too wide"
    return Table(f"Less the figures of {names[0]}", ["figure", *names[1:], "interval"], rows, note)


def _plot(results: Results, names: Sequence[str]) -> Plot:
    l0, fvu = l0_and_fvu(results["columns"])
    column = next(c for c in results["columns"] if c["suite"] == PAIRED and c["figure"] == "FVU")
    at = lambda values, i: [v if j == i else None for j, v in enumerate(values)]
    series = {name: at(fvu, i) for i, name in enumerate(names)}
    intervals = {name: at(column["intervals"], i) for i, name in enumerate(names)}
    return Plot("What is left of the variance, by L0", "L0", "FVU", l0, series, kind="points", intervals=intervals)
