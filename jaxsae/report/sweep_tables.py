"""Rows of the tables on the page of a sweep, from sweep.json's members and fits, as strings."""

from typing import Any

from jaxsae.report.figures import NONE, count, decimal, percent


def laws(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table of constants: one group for each law, one block for each k in it."""
    listed = [
        found["joint"],
        *found["convergence"],
        *found["tokens"],
        *found["compute"],
        *found["allocation"],
        found["delta_ce"],
    ]
    groups: dict[str, dict[str, Any]] = {}
    for law in listed:
        if not law or not law["constants"]:
            continue
        group = groups.setdefault(
            law["law"], {key: law[key] for key in ("law", "equation", "reference")} | {"fits": []}
        )
        constants = [(name, number(c["value"]), ends(c["interval"])) for name, c in law["constants"].items()]
        about = f"{law['points']} points, {100 * law['sigma']:.2g}% around the law"
        if law["outliers"]:
            about += f"; out of line: {', '.join(law['outliers'])}"
        group["fits"].append({"k": law.get("k"), "constants": constants, "about": about})
    return list(groups.values())


def best_k(rows: list[dict[str, Any]]) -> tuple[list[str], list[tuple[str, list[tuple[str, str]]]]]:
    """Widths, and for each target (its delta CE, [(k, its interval) at each width])."""
    targets: dict[float, list[tuple[str, str]]] = {}
    for row in rows:
        cell = number(row["k"]), ends(row["interval"]) + (", beyond the members" if row["extrapolation"] else "")
        targets.setdefault(row["delta_ce"], []).append(cell if row["k"] else (NONE, "more latents do not help"))
    widths = dict.fromkeys(count(row["width"]) for row in rows)
    return list(widths), [(number(target), cells) for target, cells in targets.items()]


def left_out(rows: list[dict[str, Any]]) -> list[str]:
    """One line for each law and reason."""
    groups: dict[tuple, list] = {}
    for row in rows:
        groups.setdefault((row["architecture"], row["fit"], row["why"]), []).append(row["k"])
    lines = []
    for (architecture, law, why), ks in groups.items():
        at = ", ".join(f"{k:g}" for k in ks if k is not None)
        lines.append(f"{architecture + ': ' if architecture else ''}{law}{' at k ' + at if at else ''}: {why}")
    return lines


def member_row(member: dict[str, Any]) -> dict[str, str]:
    """A member in the table of members."""
    figures = member.get("figures") or {}
    show = {"width": count, "k": number, "seed": count, "learning_rate": number, "tokens": count, "flops": number}
    show |= {"fvu": decimal, "l0": number, "dead_fraction": percent, "delta_ce": decimal}
    row = {name: how(figures.get(name)) for name, how in show.items()}
    row |= {
        "name": str(member.get("name")),
        "status": str(member.get("status")),
        "error": str(member.get("error") or ""),
    }
    flags = member.get("flags") or {}
    for name in ("width", "k", "seed"):  # of members that have no figures yet
        if row[name] == NONE and flags.get(name) is not None:
            row[name] = str(flags[name])
    return row | {"held_out": "held out" if member.get("held_out") else ""}


def number(value: Any) -> str:
    """Four digits, however large or small."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return NONE
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


def ends(interval: Any) -> str:
    """An interval's two ends."""
    return f"{number(interval[0])} to {number(interval[1])}" if isinstance(interval, list) else "not determined"
