"""Many dictionaries of one site in one table: figures with intervals, ranks, and differences from the first of them.

Runs and imported dictionaries alike. What can be taken on the same sequences for all is measured side by side, so that
differences are paired (`side_by_side.py`); beside it stands what the suites say of each, from its eval/ where that is of this
state of the run, else measured now. Compare at equal L0 alone: where they differ by more than 5% it is said.

The table is SAEBench's in kind (2503.09532); ground truth comes by the suites: the board of Othello. For features that are
known exactly, of dictionaries that are trained for it, see `jaxsae benchmark --what=known_dictionary`.
"""

import dataclasses
from typing import Any

from jaxsae.errors import InputError
from jaxsae.evaluate.against import others_of
from jaxsae.evaluate.bench import board
from jaxsae.evaluate.bench.others import check_missing, check_same_sites, entries_of, gathered, suites_of
from jaxsae.evaluate.bench.says import summary, table
from jaxsae.evaluate.bench.side_by_side import measure
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.subject import open_subject
from jaxsae.progress import say

__all__ = ["check", "evaluate", "summary", "table"]


def check(context: Context) -> None:
    """Raises `InputError` as `others_of`; where sites differ, no model is known, or a suite that is to be run cannot."""
    for other in others_of(context, "bench"):
        check_same_sites(context, other)
    if not (context.config.model or context.dictionary.metadata.get("model")):
        raise InputError(
            f"--model is required by --suite=bench: {context.config.run} does not say which model it belongs to"
        )
    check_missing(entries_of(context), suites_of(context))


def evaluate(context: Context) -> dict[str, Any]:
    """Measures side by side, and gathers what suites say.

    Returns:
      `dictionaries` (names, first that of --run), `about` {name: architecture, width, k, step}, `subject` (what was read),
      `columns`: of each figure `suite`, `figure`, `better`, `values`, `intervals`, `places`, `ranks` (ranges), `baselines`,
      `less` and `less_interval` (from the first; `paired` or not), `ranked`; `mean_rank`, `mean_rank_range`, `front`
      (whether nothing has as low an L0 and an FVU), `unequal_l0` {name: share by which it is off}, `notes`.
    """
    entries = entries_of(context)
    names = [entry.name for entry in entries]
    suites, notes = gathered(entries, suites_of(context))
    sequences = context.config.bench.bench_sequences
    few = dataclasses.replace(context.config, games=max(2, min(context.config.games, sequences)))
    subject = open_subject(Context(few, context.dictionary, entries[1].context.shared), "bench")
    sums = measure(context, entries, subject, sequences)
    columns = board.paired_columns(sums, names) + board.suite_columns(suites, names)
    l0, _ = board.l0_and_fvu(columns)
    off = board.unequal(names, l0)
    if off:
        shown = ", ".join(f"{name} {share:+.0%}" for name, share in off.items())
        say(f"bench: L0 differs from that of {names[0]}: {shown}. Figures at unequal L0 say little of which is better.")
    config = lambda entry: entry.dictionary.config
    return {
        "dictionaries": names,
        "about": {
            e.name: {
                "architecture": config(e).architecture,
                "width": e.dictionary.width,
                "k": config(e).told_k,
                "step": e.dictionary.metadata.get("step"),
            }
            for e in entries
        },
        "subject": subject.about | {"unit": subject.unit, "measured": len(sums.shared["rows"])},
        "rows": int(sums.shared["rows"].sum()),
        "predictions": int(sums.shared["asked"].sum()),
        "columns": columns,
        "mean_rank": board.mean_ranks(columns, len(names)),
        "mean_rank_range": [board.mean_range(columns, i) for i in range(len(names))],
        "front": board.on_front(columns),
        "unequal_l0": off,
        "notes": notes,
    }
