"""`jaxsae report`: one page about a run, a set (`sets.py`) or a sweep (`sweep.py`), in one file that needs nothing else."""

from pathlib import Path
from typing import Any

from markupsafe import Markup

from jaxsae.dashboard.games import plays_othello
from jaxsae.dashboard.settings import Settings
from jaxsae.dictionary import SWITCHES, Dictionary
from jaxsae.errors import InputError
from jaxsae.evaluate.config import EvaluateConfig
from jaxsae.evaluate.context import Context
from jaxsae.report import (
    boards,
    cards,
    decomposition,
    figures,
    findings,
    latent_pages,
    latents,
    plots,
    sets,
    site_figures,
    speed,
    sweep,
)
from jaxsae.report.config import CARD_GAMES, CARD_ROWS, ReportConfig
from jaxsae.report.page import output_file, page_template, style, write_page
from jaxsae.report.read import RunFiles, read_run
from jaxsae.training.sets import is_set
from jaxsae.version import __version__

# metric -> title, whether a logarithmic axis suits it
CURVES = {
    "fvu": ("FVU", True),
    "held_out_fvu": ("FVU, held out", True),
    "loss": ("loss", True),
    "kl": ("KL of the model's predictions", True),
    "later": ("change of later sites", True),
    "l0": ("L0", False),
    "dead_fraction": ("dead latents", False),
    "learning_rate": ("learning rate", False),
}


def report(config: ReportConfig) -> Path:
    """Writes the page of a run; parts that were not evaluated are named, with the command that would.

    Returns:
      The file written.

    Raises:
      InputError: no run, no metrics in it, damaged files, a full disk.
    """
    if bool(config.run) == bool(config.sweep):
        raise InputError("give --run=DIR, a run to draw, or --sweep=DIR, a sweep, and not both")
    if config.sweep:
        return sweep.report(config)
    if is_set(config.run):
        return sets.report(config)
    run = read_run(Path(config.run))
    output = output_file(config.output, Path(config.run))
    if config.latents:
        latent_pages.write(config, output)
    dictionary, trouble = _load(run)
    metadata = dictionary.metadata if dictionary else {}
    meta = decomposition.is_meta(run, metadata)
    othello = not meta and _is_othello(run, dictionary, metadata)
    page = page_template("page.html").render(
        name=run.path.resolve().name,
        run=run,
        version=__version__,
        meta=meta,
        kind=(dictionary.kind if dictionary else "sparse autoencoder").capitalize(),
        chips=_chips(run, dictionary),
        cards=(meta and decomposition.cards(run)) or cards.cards(run, othello),
        groups=_groups(run, meta, othello) + _speed(run, dictionary),
        pictures=decomposition.pictures(run),
        findings=findings.findings(run),
        ask=f"jaxsae evaluate --run={run.path} --suite=all",
        curves=_curves(run),
        histogram=_histogram(run),
        boards=_boards(run) if othello else [],
        othello=othello,
        latents=([], "") if meta else _latents(config, run, dictionary, trouble),
        pages=latent_pages.link(output),
        making=_making(run, metadata),
        style=style(),
    )
    return write_page(output, page)


def _load(run: RunFiles) -> tuple[Dictionary | None, str]:
    """The dictionary, or why there is none: the page is drawn without it."""
    try:
        return latents.load_dictionary(run.path), ""
    except InputError as error:
        return None, str(error)


def _is_othello(run: RunFiles, dictionary: Dictionary | None, metadata: dict[str, Any]) -> bool:
    return "othello" in run.evaluations or dictionary is None or plays_othello(metadata)


def _groups(run: RunFiles, meta: bool, othello: bool) -> list[figures.Group]:
    """Of a meta-SAE its own, and of the others what somebody asked for all the same."""
    found = figures.key_figures(run, othello) + site_figures.groups(run)
    return [decomposition.group(run), *(group for group in found if not group.missing)] if meta else found


def _speed(run: RunFiles, dictionary: Dictionary | None) -> list[figures.Group]:
    group = speed.speed(run, dictionary) if dictionary else None
    return [group] if group else []


def _chips(run: RunFiles, dictionary: Dictionary | None) -> dict[str, str]:
    """What the dictionary is, in a line."""
    evaluated = next(iter(run.evaluations.values()), {})
    metadata = dictionary.metadata if dictionary else {}
    architecture = run.flags.get("architecture") or (dictionary and dictionary.config.architecture)
    width = dictionary.width if dictionary else run.flags.get("width")
    k = dictionary.config.told_k if dictionary else run.flags.get("k")
    tokens = run.metrics[-1].get("tokens") if run.metrics else metadata.get("tokens")
    chips = {
        "architecture": architecture,
        "latents": figures.count(int(width)) if width else None,
        "d_model": dictionary.d_model if dictionary else None,
        "k": f"{float(k):g}" if k and "k" in SWITCHES.get(architecture, ("k",)) else None,
        "threshold": f"{dictionary.threshold:.4g}" if dictionary and dictionary.config.has_threshold else None,
        "site": metadata.get("site") or evaluated.get("site") or run.flags.get("site"),
        "model": metadata.get("model"),
        "trained on": f"{figures.count(tokens)} tokens" if tokens else None,
        "meta-SAE of": metadata.get("source_run") or run.flags.get("source_run"),
        "imported from": metadata.get("imported_from"),
    }
    return {name: str(value) for name, value in chips.items() if value}


def _curves(run: RunFiles) -> list[tuple[str, str, Markup]]:
    """(title, last value, plot) of each metric that was logged."""
    tokens = [line.get("tokens") for line in run.metrics]
    out = []
    for name, (title, log) in CURVES.items():
        values = [line.get(name) for line in run.metrics]
        known = [v for v in values if isinstance(v, int | float)]
        if known:
            last = f"{known[-1]:.4g}"
            if name == "dead_fraction" and (window := run.metrics[-1].get("dead_window")):
                title = f"{title}, in {figures.count(window)} rows"
            description = f"{title} against tokens: from {known[0]:.4g} to {last}"
            out.append((title, last, plots.curve(f"curve-{name}", tokens, values, log, description)))
    return out


def _histogram(run: RunFiles) -> Markup | None:
    found = run.evaluations.get("reconstruction", {}).get("frequency_histogram")
    if not found:
        return None
    never, alive = found.get("never", 0), sum(found["counts"])
    description = f"How often latents fire: {alive:,} fire on some row, {never:,} never do"
    return plots.histogram("frequencies", found["log10_edges"], found["counts"], never, description)


def _boards(run: RunFiles) -> list[tuple[str, int, Markup]]:
    """(state, squares found, board) of empty, mine and theirs."""
    found = run.evaluations.get("othello", {})
    auroc, best = found.get("best_auroc"), found.get("best_latent")
    if not auroc or not best:
        return []
    parts = [(state, slice(64 * i, 64 * (i + 1))) for i, state in enumerate(boards.STATES)]
    over = lambda part: sum(a is not None and a > boards.FOUND for a in auroc[part])
    return [(state, over(part), boards.auroc_board(state, auroc[part], best[part])) for state, part in parts]


def _latents(
    config: ReportConfig, run: RunFiles, dictionary: Dictionary | None, trouble: str
) -> tuple[list[latents.LatentCard], str]:
    """The cards, or why there are none."""
    if config.cards == 0 or dictionary is None:
        return [], trouble or "left out by --cards=0"
    rows, games = config.rows or CARD_ROWS, config.games or CARD_GAMES
    settings = Settings(rows=rows, games=games, top=config.contexts, seed=config.seed)
    context = Context(EvaluateConfig(run=config.run, store=config.store, rows=rows, seed=config.seed), dictionary)
    try:
        return latents.cards(context, run.evaluations.get("othello", {}), config.cards, settings), ""
    except InputError as error:  # a store or model that is no longer there
        return [], str(error)


def _making(run: RunFiles, metadata: dict[str, Any]) -> dict[str, str]:
    """What it took, and what it took it from."""
    facts: dict[str, Any] = {"seed": run.flags.get("seed"), "store": run.flags.get("store") or metadata.get("store")}
    if speeds := [line["tokens_per_second"] for line in run.metrics if line.get("tokens_per_second")]:
        facts["tokens a second"] = figures.count(sorted(speeds)[len(speeds) // 2])
    for name, value in run.summary.items():
        if isinstance(value, list):
            value = ", ".join(map(str, value))
        elif isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        elif isinstance(value, float):
            value = f"{value:,.1f}"
        elif isinstance(value, int) and not isinstance(value, bool):
            value = f"{value:,}"
        facts[name.replace("_", " ")] = value
    return {name: str(value) for name, value in facts.items() if value not in (None, "")}
