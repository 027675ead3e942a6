"""What the suite says: its sentence, figures, plots and tables, and its lines in a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxsae.evaluate.othello.targets import STATES
from jaxsae.evaluate.run import number
from jaxsae.evaluate.says import percent
from jaxsae.evaluate.summary import LESS, MORE, Board, Figure, Plot, Summary, Table

Results = Mapping[str, Any]
_WORDS = {"latents": "latents", "raw": "coordinates", "pca": "components", "random_model": "latents of a random model"}
_PLAYERS = {"original": "model", "spliced": "dictionary", "pca": "components", "mean": "mean", "zero": "zeros"}
_WAYS = {"top1": "the most likely move", "sampled": "moves drawn"}


def summary(e: Results) -> Summary:
    """Of `othello`."""
    probes, whole, played = e["sparse_probes"], e["whole_boards"]["by"], e["play"]
    total, k = e["above_0.9"]["total"], probes["k"][-1]
    said = f"{total} of {e['targets']} squares' states are told by a single latent with an AUROC above 0.9, "
    said += f"{probes['latents']['above_0.9'][-1]} by {k} together (by a linear probe {probes['linear_probe']['above_0.9']})"
    said += f", and {percent(whole[f'latents_{k}']['boards'])} of boards are right in all 64 squares by those {k}"
    limits = "Latents that tell the board need not be what the model plays by"
    if played:
        way = played["top1"]
        own, plain = (way[name]["until"] for name in ("spliced", "original"))
        said += f"; with the dictionary in its place the model plays {own:.1f} of {played['moves']} moves before an "
        said += f"illegal one ({plain:.1f} as it is)"
        limits += ", legal moves are not good ones"
    limits += ", and a state that few latents do not tell may be told by many, as probes on all of the activation do."
    return Summary(
        title="The board in latents",
        sample=f"{e['rows']:,} positions of {e['games']:,} games; several latents together on {probes['games']:,} of them",
        says=f"{said}.",
        limits=limits,
        figures=[*_single(e), *_several(e), *(_play_figures(played) if played else ())],
        plots=[*_by_k(probes), *(_survival(played) if played else ())],
        tables=[_boards_table(e), *_ring_tables(e["rings"]), *([_play_table(played)] if played else ())],
        boards=[
            Board(
                f"Share of positions in which {k} latents a state have a square wrong", whole[f"latents_{k}"]["wrong"]
            )
        ],
    )


def _single(e: Results) -> list[Figure]:
    others = {name: part for name, part in e["baselines"].items() if part}
    beside = lambda key: {name: part.get(key) for name, part in others.items()}
    found = {name: part["above_0.9"]["total"] for name, part in others.items()}
    total, note = e["above_0.9"]["total"], f"of {e['targets']}, AUROC above 0.9"
    return [
        Figure("board targets", total, better=MORE, baselines=found, note=note),
        Figure("board AUROC", e["mean_best_auroc"], better=MORE, baselines=beside("mean_best_auroc")),
        Figure("board coverage", e["coverage"], better=MORE, baselines=beside("coverage")),
        Figure("board F1", e["board_f1"], better=MORE, baselines=beside("board_f1")),
    ]


def _several(e: Results) -> list[Figure]:
    probes, whole, out = e["sparse_probes"], e["whole_boards"]["by"], []
    others, linear = [name for name in _WORDS if name in probes and name != "latents"], probes["linear_probe"]
    for name, key in (("AUROC", "mean_auroc"), ("F1", "mean_f1")):
        for i, k in enumerate(probes["k"]):
            own = probes["latents"]
            beside = {kind: probes[kind][key][i] for kind in others} | {"linear_probe": linear[key]}
            note = f"logistic regression on {k} of them, mean over targets"
            out.append(
                Figure(f"board {name} of {k}-sparse probes", own[key][i], own[f"{key}_interval"][i], MORE, beside, note)
            )
    k = probes["k"][-1]
    for name, key, better in (("whole boards", "boards", MORE), ("squares wrong", "squares_wrong", LESS)):
        own = whole[f"latents_{k}"]
        beside = {kind: whole[f"{kind}_{k}"][key] for kind in others}
        beside |= {one: whole[one][key] for one in ("latents_single", "linear_probe", "most_common")}
        note = f"by {k} latents a state" + (", all 64 squares right" if key == "boards" else " of 64")
        out.append(Figure(name, own[key], own[f"{key}_interval"], better, beside, note, percent=key == "boards"))
    return out


def _play_figures(played: Results) -> list[Figure]:
    out, way = [], played["top1"]
    opening = f"of {played['moves']}, from {played['opening']} random moves, {played['games']:,} games"
    for name, key, interval, note in (
        ("legal moves played", "until", "until_interval", opening),
        ("whole games played", "whole", "whole_interval", "no illegal move"),
        (
            "legal share of moves",
            "legal",
            "legal_interval",
            "the most likely legal one is played instead of an illegal one",
        ),
    ):
        beside = {_PLAYERS[other]: way[other][key] for other in _PLAYERS if other != "spliced"}
        share = key != "until"
        out.append(Figure(name, way["spliced"][key], way["spliced"][interval], MORE, beside, note, percent=share))
    return out


def _by_k(probes: Results) -> list[Plot]:
    kinds = {words: probes[name] for name, words in _WORDS.items() if name in probes}
    linear = probes["linear_probe"]
    return [
        Plot(
            f"Probes of k units: {title}",
            "units of a probe",
            f"mean {title} over targets",
            probes["k"],
            {words: part[key] for words, part in kinds.items()},
            intervals={words: part[f"{key}_interval"] for words, part in kinds.items()},
            log_x=True,
            guides={"linear probe": linear[key]},
        )
        for title, key in (("AUROC", "mean_auroc"), ("F1", "mean_f1"))
    ]


def _survival(played: Results) -> list[Plot]:
    plies = list(range(played["opening"] + 1, played["opening"] + 1 + played["moves"]))
    return [
        Plot(
            f"Games without an illegal move so far, by {words}",
            "ply",
            "share of games",
            plies,
            {_PLAYERS[name]: part["still_legal"] for name, part in played[way].items()},
        )
        for way, words in _WAYS.items()
    ]


def _boards_table(e: Results) -> Table:
    rows = [
        [_by(name), part["boards"], part["boards_interval"], part["squares_wrong"], part["squares_wrong_interval"]]
        for name, part in e["whole_boards"]["by"].items()
    ]
    columns = ("by", "boards right", "95% interval", "squares wrong", "95% interval")
    note = (
        "of each square the state with the largest score; single units: what those say that were precise on other games"
    )
    return Table("Whole boards", columns, rows, note)


def _by(name: str) -> str:
    """What scored a board, in words."""
    kind, _, how = name.rpartition("_")
    if kind not in _WORDS:
        return {"linear_probe": "a linear probe", "most_common": "the most common state of each square"}[name]
    words = _WORDS[kind]
    if how == "single":
        return f"precise single {words}"
    return f"{how} {words.replace('s', '', 1) if how == '1' else words} a state"


def _ring_tables(rings: Results) -> list[Table]:
    words = _WORDS | {"linear_probe": "linear probe"}
    kinds = [name for name in words if name in rings["found"]]
    rows = [
        [ring, rings["squares"][i], rings["targets"][i]]
        + [cell for kind in kinds for cell in (rings["found"][kind][i], rings["mean_best_auroc"][kind][i])]
        for i, ring in enumerate(rings["rings"])
    ]
    columns = [
        "ring",
        "squares",
        "targets",
        *(f"{words[kind]}: {what}" for kind in kinds for what in ("found", "AUROC")),
    ]
    note = "the best single unit, or the probe, of each target; found: AUROC above 0.9"
    out = [Table("Rings of the board, from the centre to the edge", columns, rows, note)]
    stages = [f"plies {first + 1} to {last + 1}" for first, last in rings["plies"]]
    by_ply = [[ring, words[kind], *rings["by_ply"][kind][i]] for i, ring in enumerate(rings["rings"]) for kind in kinds]
    note = "mean AUROC of the unit that was best on other games, over the rows of some plies alone"
    return [*out, Table("Rings by ply", ("ring", "by", *stages), by_ply, note)]


def _play_table(played: Results) -> Table:
    rows: list[Sequence[Any]] = []
    for way, words in _WAYS.items():
        for name, part in played[way].items():
            until = [part["until"], part["until_interval"], part["until_median"], part["fewer_interval"]]
            shares = [part["whole"], part["whole_interval"], part["legal"], part["legal_interval"]]
            rows.append([words, _PLAYERS[name], *until, *shares])
    columns = (
        "chosen by",
        "in the model",
        "moves before an illegal one",
        "95% interval",
        "median",
        "fewer than the model",
    )
    columns += ("whole games", "95% interval", "legal moves", "95% interval")
    note = f"components: as many as the dictionary has active latents, {played['components']}; fewer: 95% interval, by game"
    return Table("Games played to the end", columns, rows, note)


def table(results: Results) -> list[str]:
    """The figures in a few lines."""
    lines = [f"{results['targets']} targets, {results['rows']:,} positions of {results['games']} games"]
    for name, figures in [("latents", results), *results["baselines"].items()]:
        if figures is None:
            lines.append(f"{name:<13} not measured")
            continue
        count = figures["above_0.9"]
        by_state = ", ".join(f"{state} {count[state]}" for state in STATES)
        fvu = f"   fvu {number(figures['fvu'])}" if "fvu" in figures else ""
        lines.append(
            f"{name:<13} above 0.9: {count['total']:>3} ({by_state}; held out {figures['held_out_total']})   "
            f"mean best {number(figures['mean_best_auroc'])}   coverage {number(figures['coverage'])}   "
            f"board F1 {number(figures['board_f1'])}{fvu}"
        )
    return lines + _lines(results)


def _lines(results: Results) -> list[str]:
    probes, whole, lines = results["sparse_probes"], results["whole_boards"]["by"], []
    for name in (kind for kind in _WORDS if kind in probes):
        part = probes[name]
        told = zip(probes["k"], part["mean_auroc"], part["above_0.9"], part["mean_f1"], strict=True)
        cells = "   ".join(f"{k}: {number(auroc)} ({above}), F1 {number(f1)}" for k, auroc, above, f1 in told)
        board = whole[f"{name}_{probes['k'][-1]}"]
        lines.append(f"{name:<13} AUROC of k units (above 0.9)   {cells}   {_of_board(board)}")
    lines.append(f"{'linear_probe':<13} {_of_board(whole['linear_probe'])}")
    if played := results["play"]:
        for way, words in _WAYS.items():
            told = (f"{_PLAYERS[n]} {p['until']:.1f} ({p['whole']:.0%} whole)" for n, p in played[way].items())
            lines.append(f"legal moves of {played['moves']}, by {words}:   " + "   ".join(told))
    return lines


def _of_board(part: Results) -> str:
    return f"boards right {part['boards']:.2%}, squares wrong {part['squares_wrong']:.2f}"
