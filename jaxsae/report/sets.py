"""The page of a set: a row for each of its runs, and what all of their dictionaries cost the model together."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from jaxsae.report import latent_pages, plots
from jaxsae.report.config import ReportConfig
from jaxsae.report.figures import NONE, Card, count, decimal, part, percent
from jaxsae.report.page import output_file, page_template, style, write_page
from jaxsae.report.read import RunFiles, SetFiles, read_set
from jaxsae.training.sets import left_in
from jaxsae.version import __version__

COMPOUNDING = "compounding"


def report(config: ReportConfig) -> Path:
    """Writes the page of a set; what was not evaluated is named, with the command that would.

    Returns:
      The file written.

    Raises:
      InputError: no run has begun, damaged files, a full disk.
    """
    files = read_set(Path(config.run))
    output = output_file(config.output, files.path)
    if config.latents:
        latent_pages.write(config, output)
    together = files.evaluations.get(COMPOUNDING, {})
    page = page_template("set.html").render(
        name=files.path.resolve().name,
        set=files,
        left=left_in(files.path),
        version=__version__,
        chips=_chips(files),
        cards=_cards(together),
        runs=[_row(run, output) for run in files.runs],
        together=together,
        rows=[_together_row(row) for row in together.get("rows", [])],
        curves=list(together.get("curves", {})),
        plots=_plots(together),
        kl=f"{together['error_nodes']['kl']:.1e}" if together else "",
        pages=latent_pages.link(output),
        style=style(),
    )
    return write_page(output, page)


def _chips(files: SetFiles) -> dict[str, str]:
    """What the dictionaries are, in a line."""
    names = {"architecture": "architecture", "width": "latents", "k": "k", "tokens": "trained on", "store": "store"}
    return {label: files.flags[name] for name, label in names.items() if files.flags.get(name)}


def _cards(together: dict[str, Any]) -> list[Card]:
    """What all dictionaries cost at once."""
    if not together:
        return []
    last = together["rows"][-1]
    where = f"nats a token, all {len(last['sites'])} replaced"
    return [
        Card("ΔCE", decimal(last["delta_ce"]), f"{where}; sum of each alone {decimal(last['sum_of_each_delta_ce'])}"),
        Card("KL", decimal(last["kl"]), where),
        Card("faithfulness", percent(last["faithfulness"].get("mean")), "1 is the model, 0 means in their places"),
    ]


def _row(run: RunFiles, output: Path) -> dict[str, str]:
    """A run in the table of runs."""
    found, spliced = (run.evaluations.get(suite, {}) for suite in ("reconstruction", "splice"))
    plain = part(found, "baselines", "linear") or part(found, "baselines", "pca_k")
    page = run.path / "report.html"
    link = quote(os.path.relpath(page, output.parent).replace(os.sep, "/")) if page.is_file() else ""
    return {
        "site": run.path.name,
        "reads": run.flags.get("reads", ""),
        "link": link,
        "fvu": decimal(found.get("fvu")),
        "plain": decimal(plain.get("fvu")),
        "l0": f"{found['l0']:.1f}" if "l0" in found else NONE,
        "never": percent(found.get("dead_fraction")),
        "delta_ce": decimal(spliced.get("delta_ce")),
        "interval": ends(spliced.get("delta_ce_interval"), decimal),
        "faithfulness": percent(part(spliced, "faithfulness").get("mean")),
        "error": percent(part(spliced, "error_nodes", "share").get(run.path.name)),
    }


def _together_row(row: dict[str, Any]) -> dict[str, Any]:
    """The first so many dictionaries in the table of what they cost together."""
    fractions, intervals = (row["effective_compute"][name] for name in ("fraction", "fraction_interval"))
    compute = {name: (percent(value), ends(intervals[name], percent)) for name, value in fractions.items()}
    return {
        "number": count(len(row["sites"])),
        "site": row["sites"][-1],
        "delta_ce": decimal(row["delta_ce"]),
        "interval": ends(row["delta_ce_interval"], decimal),
        "sum": decimal(row["sum_of_each_delta_ce"]),
        "mean": decimal(row["ce_mean"] - row["ce"]),
        "kl": decimal(row["kl"]),
        "faithfulness": {base: percent(value) for base, value in row["faithfulness"].items()},
        "compute": compute,
    }


def ends(interval: Any, show: Callable[[Any], str]) -> str:
    """An interval's two ends, "" where there is none."""
    return f"{show(interval[0])} to {show(interval[1])}" if isinstance(interval, list) else ""


def _plots(together: dict[str, Any]) -> list[tuple[str, Markup]]:
    """(caption, plot) of what is lost, and of what is left on each curve, against how many dictionaries there are."""
    rows, x = together.get("rows", []), "dictionaries in the model"
    if not rows:
        return []
    column = lambda name: [row[name] for row in rows]
    lost = {"together": column("delta_ce"), "sum of each alone": column("sum_of_each_delta_ce")}
    ends_at = ", ".join(f"{label} up to {decimal(values[-1])}" for label, values in lost.items())
    said = f"ΔCE of 1 to {len(rows)} dictionaries: {ends_at}"
    out = [("ΔCE, nats a token", plots.by_number("compounding", lost, x, "ΔCE", said))]
    for curve in together["curves"]:
        left = [row["effective_compute"]["fraction"].get(curve) for row in rows]
        said = f"Effective compute of 1 to {len(rows)} dictionaries on the {curve} curve: {percent(left[-1])} with all"
        plot = plots.by_number(f"compute-{curve}", {"together": left}, x, "share of compute", said, percent=True)
        out.append((f"Effective compute, {curve} curve", plot))
    return out
