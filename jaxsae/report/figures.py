"""The key figures of a run, each beside its baselines and its sample size."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from jaxsae.numbers import is_number
from jaxsae.report.read import RunFiles

CONTROL = "random model"  # of `evaluate/beside_control.py`
_NAMES = {"\N{GREEK CAPITAL LETTER DELTA}CE": "delta CE"}  # of rows, by the figures' own
NONE = "\N{EN DASH}"  # a figure that was not measured
OTHELLO_BASELINES = {
    "raw": "raw activations",
    "pca": "PCA",
    "random_model": "random-model SAE",
    "linear_probe": "linear probes",
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure: what it is, its value, the baselines' values by name, a note on how it is counted."""

    label: str
    value: str
    baselines: dict[str, str]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Group:
    """The figures of one suite, what they say and what not; where there are none, `missing` is the command that makes them,
    and `why` says so."""

    title: str
    sample: str = ""
    rows: list[Row] = dataclasses.field(default_factory=list)
    missing: str = ""
    why: str = "Not evaluated"
    says: str = ""
    limits: str = ""


@dataclasses.dataclass(frozen=True)
class Card:
    """A figure in large type, and what it stands beside."""

    label: str
    value: str
    beside: str


def decimal(value: Any) -> str:
    """Four decimals."""
    return f"{value:.4f}" if is_number(value) else NONE


def percent(value: Any) -> str:
    """A share as a percentage with two decimals."""
    return f"{100 * value:.2f}%" if is_number(value) else NONE


def count(value: Any) -> str:
    """A whole number with thousands separators."""
    return f"{round(value):,}" if is_number(value) else NONE


def key_figures(run: RunFiles, othello: bool) -> list[Group]:
    """Groups of figures, one for each suite that the page knows; Othello's only where it applies."""
    makers = {"reconstruction": _reconstruction, "splice": _splice} | ({"othello": _othello} if othello else {})
    titles = {"reconstruction": "Reconstruction", "splice": "In the model", "othello": "The board in single latents"}
    groups = []
    for suite, make in makers.items():
        found = run.evaluations.get(suite)
        command = f"jaxsae evaluate --run={run.path} --suite={suite}"
        groups.append(
            Group(titles[suite], missing=command) if found is None else _said(make(titles[suite], found), found)
        )
    if found := run.evaluations.get("effective_compute"):
        groups.insert(2, _said(_effective_compute("Effective compute", found), found))
    return groups


def _said(group: Group, e: Mapping[str, Any]) -> Group:
    """With the suite's sentences, and its control among the baselines, which older files lack."""
    summary = part(e, "summary")
    control = {f["name"]: f["baselines"].get(CONTROL) for f in summary.get("figures", [])}
    rows = [_beside(row, control.get(_NAMES.get(row.label, row.label))) for row in group.rows]
    return dataclasses.replace(group, rows=rows, says=summary.get("says", ""), limits=summary.get("limits", ""))


def _beside(row: Row, control: Any) -> Row:
    if not is_number(control):
        return row
    show = percent if row.value.endswith("%") else decimal
    return dataclasses.replace(row, baselines=row.baselines | {CONTROL: show(control)})


def _effective_compute(title: str, e: Mapping[str, Any]) -> Group:
    rows = []
    for name, value in part(e, "fraction").items():
        ends = part(e, "fraction_interval").get(name) or (None, None)
        note = f"of the training compute has the spliced loss; 95% interval {percent(ends[0])} to {percent(ends[1])}"
        if part(e, "applies").get(name) is False:
            note = f"does not apply: this curve is of English text; {note}"
        rows.append(
            Row(
                f"{name} curve",
                percent(value),
                {"parameters": percent(part(e, "parameters_fraction").get(name))},
                note,
            )
        )
    rows += [Row(f"{name} curve", NONE, {}, why) for name, why in part(e, "refused").items()]
    return Group(title, f"{count(e.get('tokens'))} tokens", rows)


def _reconstruction(title: str, e: Mapping[str, Any]) -> Group:
    plain, fvu = plain_map(e)
    rows = [
        Row(
            "FVU",
            decimal(e.get("fvu")),
            {"mean": decimal(part(e, "baselines", "mean").get("fvu")), plain: decimal(fvu)},
            "fraction of variance unexplained; 0 is perfect",
        ),
        Row(
            "L0",
            decimal(e.get("l0")),
            {"k": f"{e['k']:g}"} if is_number(e.get("k")) else {},
            "active latents of a row",
        ),
        Row("gamma", decimal(e.get("gamma")), {"unbiased": "1"}, "below 1: reconstructions are too short"),
    ]
    held_out = {True: " held-out", False: ""}.get(e.get("held_out"), "")
    window = f"{count(e.get('rows'))}{held_out} rows"
    classes = {"dead": "on none", "rare": "on fewer than 1 in 10,000", "dense": "on more than 1 in 10"}
    for name, on in classes.items():
        rows.append(Row(f"{name} latents", percent(e.get(f"{name}_fraction")), {}, f"fire {on} of these {window}"))
    return Group(title, window, rows)


def _splice(title: str, e: Mapping[str, Any]) -> Group:
    def over_ce(name: str) -> str:
        return decimal(e[name] - e["ce"]) if is_number(e.get(name)) and is_number(e.get("ce")) else NONE

    top1 = part(e, "legal_top1")
    interval = e.get("delta_ce_interval")
    note = "added cross-entropy, nats a token"
    if isinstance(interval, list) and len(interval) == 2:
        note += f"; 95% interval {decimal(interval[0])} to {decimal(interval[1])}"
    rows = [
        Row(
            "cross-entropy",
            decimal(e.get("ce_spliced")),
            {"model": decimal(e.get("ce")), "zeros": decimal(e.get("ce_zero")), "mean": decimal(e.get("ce_mean"))}
            | ({"floor": decimal(e["floor"])} if "floor" in e else {}),
            "with reconstructions in the model",
        ),
        Row("ΔCE", decimal(e.get("delta_ce")), {"zeros": over_ce("ce_zero"), "mean": over_ce("ce_mean")}, note),
        Row(
            "loss recovered",
            percent(e.get("loss_recovered")),
            {"zeros": percent(0.0), "model": percent(1.0)},
            "zeros are a weak baseline",
        ),
        Row("KL", decimal(e.get("kl")), {}, "model from spliced model, nats a token"),
    ]
    if top1:
        names = {"original": "model", "zero": "zeros", "mean": "mean"}
        beside = {label: percent(top1.get(name)) for name, label in names.items() if name in top1}
        rows.append(
            Row("legal moves", percent(top1.get("spliced")), beside, "share of positions whose likeliest move is legal")
        )
    return Group(title, f"{count(e.get('tokens'))} tokens", rows)


def _othello(title: str, e: Mapping[str, Any]) -> Group:
    def row(label: str, note: str, show: Callable[[Any], str], *keys: str) -> Row:
        def of(figures: Any) -> str:
            for key in keys:
                figures = figures.get(key) if isinstance(figures, Mapping) else None
            return show(figures)

        baselines = part(e, "baselines")
        return Row(label, of(e), {text: of(baselines.get(name)) for name, text in OTHELLO_BASELINES.items()}, note)

    targets = count(e.get("targets"))
    rows = [row("AUROC > 0.9", f"of {targets} targets, by the best single unit", count, "above_0.9", "total")]
    for state in ("empty", "mine", "theirs"):
        rows.append(row(f"… {state}", "", count, "above_0.9", state))
    rows += [
        row("… held out", "unit chosen on half of the games, counted on the others", count, "held_out_total"),
        row("mean AUROC", "of the best units", decimal, "mean_best_auroc"),
        row("coverage", "mean over targets of the best F1 of a unit", decimal, "coverage"),
        row("board F1", "boards read off high-precision units", decimal, "board_f1"),
        row("FVU", "on these positions: an SAE of a random model does as well, and knows no board", decimal, "fvu"),
    ]
    return Group(title, f"{count(e.get('rows'))} positions of {count(e.get('games'))} games", rows)


def plain_map(e: Mapping[str, Any]) -> tuple[str, Any]:
    """Name and FVU of what does without latents: principal components or, where another site is written, a linear map."""
    if linear := part(e, "baselines", "linear"):
        return "linear map", linear.get("fvu")
    pca = part(e, "baselines", "pca_k")
    return f"PCA, {count(pca.get('components'))} components", pca.get("fvu")


def part(e: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """A nested object, empty where it is missing."""
    value: Any = e
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}
