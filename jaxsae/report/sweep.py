"""The page of a sweep: its frontier, its laws and its members, whether it has finished or not."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from jaxsae.config import check
from jaxsae.errors import InputError
from jaxsae.evaluate.curves import read_curve
from jaxsae.evaluate.scaling_curve import Curve
from jaxsae.numbers import is_positive
from jaxsae.report import sweep_plots as plots
from jaxsae.report import sweep_tables as tables
from jaxsae.report.config import ReportConfig
from jaxsae.report.figures import Card, count, decimal, percent
from jaxsae.report.page import output_file, page_template, style, write_page
from jaxsae.report.sweep_read import SweepFiles, read_sweep
from jaxsae.sweep.directory import STATUSES
from jaxsae.sweep.fits import fit_all
from jaxsae.sweep.laws import COMPUTE
from jaxsae.sweep.members import best_settings, read_members
from jaxsae.version import __version__

REFRESH = 60  # seconds after which a browser reads the page of an unfinished sweep again
CURVE_POINTS = 150  # of a member's curve in a plot
_PANELS = 6  # values of k whose curves are drawn


def report(config: ReportConfig) -> Path:
    """Fits the laws to the members finished so far and writes the page.

    Returns:
      The file written.

    Raises:
      InputError: no sweep, a damaged sweep.json, a curve that is none, a full disk.
    """
    curve = read_curve(config.scaling_curve)
    games = "is of whole games, which members are not measured on: give hoffmann, epoch, or a JSON file"
    check(not curve.games, "scaling_curve", config.scaling_curve, games)
    sweep = read_sweep(Path(config.sweep))
    output = output_file(config.output, sweep.path)
    fits = fit_all(sweep.members, config.compute, config.target_delta_ce, config.seed)
    architectures = sorted({_of(m, "architecture") for m in sweep.finished})
    page = page_template("sweep.html").render(
        name=sweep.path.resolve().name,
        sweep=sweep,
        version=__version__,
        refresh=REFRESH if sweep.counts["running"] + sweep.counts["waiting"] else 0,
        chips=_chips(sweep),
        cards=_cards(sweep, fits),
        sections=[_section(name, sweep, fits["architectures"].get(name), curve) for name in architectures],
        members=[tables.member_row(m) for m in sweep.members],
        warnings=fits["warnings"],
        left_out=tables.left_out(fits["left_out"]),
        intervals=fits["interval"],
        style=style(),
    )
    return write_page(output, page)


def _of(member: Mapping[str, Any], name: str) -> Any:
    return (member.get("figures") or {}).get(name)


def _chips(sweep: SweepFiles) -> dict[str, str]:
    values = lambda name: sorted({_of(m, name) for m in sweep.finished if _of(m, name) is not None})
    listed = lambda name: ", ".join(count(v) if isinstance(v, int) else f"{v:g}" for v in values(name))
    chips = {"architecture": ", ".join(values("architecture")), "latents": listed("width"), "k": listed("k")}
    chips |= {"d_model": listed("d_model"), "seeds": listed("seed"), "store": str(sweep.content.get("store") or "")}
    return {name: value for name, value in chips.items() if value}


def _cards(sweep: SweepFiles, fits: dict[str, Any]) -> list[Card]:
    counts = sweep.counts
    rest = ", ".join(f"{counts[s]} {s}" for s in STATUSES[1:] if counts[s])
    cards = [Card("members", f"{counts['finished']} of {len(sweep.members)}", rest or "all finished")]
    measured = [m for m in sweep.finished if isinstance(_of(m, "fvu"), int | float)]
    if measured:
        best = min(measured, key=lambda m: _of(m, "fvu"))
        cards.append(Card("lowest FVU", decimal(_of(best, "fvu")), f"{best.get('name')}"))
    spliced = [m for m in measured if isinstance(_of(m, "delta_ce"), int | float)]
    if spliced:
        best = min(spliced, key=lambda m: _of(m, "delta_ce"))
        cards.append(Card("lowest ΔCE", decimal(_of(best, "delta_ce")), f"nats a token; {best.get('name')}"))
    errors = [abs(row["error"]) for found in fits["architectures"].values() for row in found["held_out"]]
    if errors:
        beside = f"largest error of the joint law on {len(errors)} held-out member{'s' if len(errors) > 1 else ''}"
        cards.append(Card("prediction", percent(max(errors)), beside))
    return cards


def _section(name: str, sweep: SweepFiles, found: dict[str, Any] | None, curve: Curve) -> dict[str, Any]:
    """Everything of one architecture."""
    members = [m for m in sweep.finished if _of(m, "architecture") == name]
    return {
        "name": name,
        "frontier": _per_width(name, "frontier", members, "fvu", "FVU"),
        "dead": _dead(name, members),
        "delta_ce": _per_width(name, "delta-ce", members, "delta_ce", "ΔCE, nats a token"),
        "effective": _effective(name, members, curve),
        "curve": curve,
        "othello": sweep.othello and curve.text,
        "compute": _compute(name, members, found),
        "surface": _surface(name, members, found),
        "laws": tables.laws(found) if found else [],
        "held_out": found["held_out"] if found else [],
        "optima": [{"k": fit["k"]} | row for fit in found["allocation"] for row in fit["optima"]] if found else [],
        "exponents": [{"k": fit["k"]} | fit["exponents"] for fit in found["allocation"]] if found else [],
        "best_k": tables.best_k(found["best_k"]) if found else ([], []),
        "show": {"decimal": decimal, "percent": percent, "count": count, "ends": tables.ends, "number": tables.number},
    }


def _by(members: Sequence[dict], key: str, x: str, y: Callable[[dict], Any]) -> list[plots.Line]:
    """A line for each value of `key`, of the members whose x and y are there."""
    out = []
    for value in sorted({_of(m, key) for m in members if _of(m, key) is not None}):
        own = [(_of(m, x), y(m)) for m in members if _of(m, key) == value]
        own = [(across, up) for across, up in own if is_positive(across) and up is not None]
        if own:
            label = f"{value:,}" if isinstance(value, int) else f"{value:g}"
            out.append((label, *map(list, zip(*own, strict=True))))
    return out


def _per_width(name: str, plot: str, members: list[dict], figure: str, label: str) -> Markup | None:
    """A figure against L0, a line for each width."""
    series = _by(members, "width", "l0", lambda m: _of(m, figure) if is_positive(_of(m, figure)) else None)
    if not series:
        return None
    description = f"{label} against L0 of {sum(len(x) for _, x, _ in series)} {name} members, by number of latents"
    return plots.lines(f"{plot}-{name}", series, "L0, active latents a row", label, "latents", description)


def _dead(name: str, members: list[dict]) -> Markup | None:
    share = lambda m: _of(m, "dead_fraction") if isinstance(_of(m, "dead_fraction"), int | float) else None
    series = _by(members, "k", "width", share)
    description = f"Share of dead latents against the number of latents of {name} members, by k"
    return plots.lines(f"dead-{name}", series, "latents", "dead", "k", description, percent=True) if series else None


def _effective(name: str, members: list[dict], curve: Curve) -> Markup | None:
    """Effective compute against L0 on a curve; None where no member has a loss above its E."""

    def fraction(m: dict) -> float | None:
        ce, delta = _of(m, "ce"), _of(m, "delta_ce")
        if not isinstance(ce, int | float) or not isinstance(delta, int | float):
            return None
        try:
            return curve.fraction(ce, delta)
        except InputError:
            return None

    series = _by(members, "width", "l0", fraction)
    description = f"Effective compute on the {curve.name} curve against L0 of {name} members"
    label, across = "share of training compute", "L0, active latents a row"
    return (
        plots.lines(f"effective-{name}", series, across, label, "latents", description, percent=True)
        if series
        else None
    )


def _compute(name: str, members: list[dict], found: dict[str, Any] | None) -> list[tuple[str, Markup]]:
    """(k, plot) of FVU over compute."""
    ks = sorted({_of(m, "k") for m in members if _of(m, "curve") and _of(m, "k") is not None})
    ks = ks if len(ks) <= _PANELS else [ks[round(i * (len(ks) - 1) / (_PANELS - 1))] for i in range(_PANELS)]
    out = []
    for k in ks:
        own = sorted((m for m in members if _of(m, "k") == k), key=lambda m: _of(m, "width"))
        own = [m for m in own if _of(m, "curve") and len(_curve(_of(m, "curve"))[0]) > 1]
        curves = [(f"{_of(m, 'width'):,}", *_curve(_of(m, "curve"))) for m in own]
        aside = [bool(m.get("held_out")) for m in own]
        fit = next((f for f in found["compute"] if f["k"] == k), None) if found else None
        if curves:
            description = f"FVU against training FLOPs at k {k:g}, with the envelope of the curves"
            out.append((f"{k:g}", plots.compute(f"compute-{name}-{k:g}", curves, aside, fit, COMPUTE, description)))
    return out


def _curve(points: list[dict]) -> tuple[list[float], list[float]]:
    kept = [(p.get("flops"), p.get("fvu")) for p in points if is_positive(p.get("flops")) and is_positive(p.get("fvu"))]
    step = max(1, len(kept) // CURVE_POINTS)
    kept = kept[::-1][::step][::-1]
    return [x for x, _ in kept], [y for _, y in kept]


def _surface(name: str, members: list[dict], found: dict[str, Any] | None) -> list[Markup]:
    """The fitted surface from above and in sections; empty where there is none."""
    if not found or not found["joint"]:
        return []
    usable, _ = read_members(members)
    best = best_settings(m for m in usable if not m.held_out)
    plain = lambda chosen: [{"width": m.width, "k": m.k, "nominal_k": m.nominal_k, "fvu": m.fvu} for m in chosen]
    fitted, aside = plain(best), plain(m for m in usable if m.held_out)
    what = f"the fitted law of {len(fitted)} {name} members with {len(aside)} held-out ones on it"
    arguments = found["joint"], fitted, aside
    out = [plots.surface(f"surface-{name}", *arguments, f"Contours of FVU over latents and k: {what}")]
    if all(m["nominal_k"] is not None for m in (*fitted, *aside)):
        out.append(plots.sections(f"sections-{name}", *arguments, f"FVU against latents by k: {what}"))
    return out
