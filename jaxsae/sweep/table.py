"""A sweep as a table, on the screen and as CSV."""

import csv
import io
from pathlib import Path
from typing import Any

from jaxsae.files import write_text

COLUMNS = ("status", "held_out", "architecture", "width", "k", "seed", "learning_rate", "tokens", "flops", "fvu", "l0")
COLUMNS += ("dead_fraction", "loss", "delta_ce", "rows")
_SHOWN = {"tokens": ",.0f", "flops": ".3g", "learning_rate": ".3g", "fvu": ".4f", "l0": ".2f", "loss": ".4f"}
_SHOWN |= {"dead_fraction": ".1%", "delta_ce": ".4f", "rows": ",d"}
_SHORT = {"dead_fraction": "dead", "learning_rate": "rate", "architecture": "method"}


def rows(members: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One flat dictionary a member: `member`, `COLUMNS`, `error`."""
    flat = [{"member": m["name"], **m, **m["figures"]} for m in members]
    return [{name: m.get(name) for name in ("member", *COLUMNS, "error")} for m in flat]


def lines(members: list[dict[str, Any]]) -> list[str]:
    """For people; columns in which all members are alike are left out, but for the figures."""
    table = rows(members)
    constant = ("held_out", "architecture", "seed", "learning_rate")
    shown = [n for n in COLUMNS if n not in constant or len({row[n] for row in table}) > 1]
    shown = [n for n in shown if any(row[n] not in (None, "") for row in table)]
    cells = [["member", *(_SHORT.get(n, n) for n in shown)]]
    cells += [[row["member"], *(_cell(n, row[n]) for n in shown)] for row in table]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    aligned = lambda line: (c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
    text = ["  ".join(aligned(line)) for line in cells]
    text += [f"{row['member']}: {row['error']}" for row in table if row["error"]]
    if {"dead_fraction", "rows"} <= set(shown):
        text.append(
            "dead: latents that fire on none of the held-out `rows`; where those are 0, of a window of training"
        )
    return text


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else ""
    return format(value, _SHOWN.get(name, ""))


def write_csv(path: Path, members: list[dict[str, Any]]) -> None:
    """All figures in full, one line a member."""
    table, text = rows(members), io.StringIO()
    writer = csv.DictWriter(text, ["member", *COLUMNS, "error"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    write_text(path, text.getvalue())
