"""What `compare` says, in a table and in a sentence."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxsae.evaluate.says import number, percent
from jaxsae.evaluate.summary import Figure, Plot, Summary, Table

Results = Mapping[str, Any]


def _short(name: str) -> str:
    """The last of a path's names, with the step."""
    return Path(name).name


def names_of(results: Results) -> dict[str, str]:
    """{as it was given: as it is shown}, short where that tells them apart."""
    given = list(results["against"])
    short = [_short(name) for name in given]
    return dict(zip(given, short if len(set(short)) == len(short) else given, strict=True))


def _main(found: Results) -> Results:
    """Figures of the latents that fire, where that is known."""
    return found.get("alive") or found


def told(found: Results) -> str:
    """In what two dictionaries differ, in words."""
    if not found["differs"]:
        return "nothing that their flags say"
    shown = lambda value: (
        "default" if value is None else ",".join(map(str, value)) if isinstance(value, list) else value
    )
    pairs = [f"{name} {shown(a)} / {shown(b)}" for name, (a, b) in list(found["differs"].items())[:4]]
    return ", ".join(pairs) + (", ..." if len(found["differs"]) > 4 else "")


def _ends(pair: Any) -> str:
    return f" [{pair[0]:.1%}, {pair[1]:.1%}]" if pair else ""


def _counts(found: Results) -> str:
    return "   ".join(f"{name} {count:,}" for name, count in found["kinds"].items())


def table(results: Results) -> list[str]:
    """Some lines for each other dictionary."""
    seen = f"{results['rows']:,} {'held-out rows' if results['held_out'] else 'rows'}" if results["rows"] else "no rows"
    lines = [f"shared: a decoder cosine of {results['threshold']:g} or more; firing on {seen}"]
    for name, found in results["against"].items():
        main, both = _main(found), found["baselines"]
        fires = "latents that fire" if "alive" in found else "latents"
        lines.append(f"{name}: differs in {told(found)}")
        for side, whose in (("own", "of this"), ("other", "of that")):
            f = main[side]
            shared = f"{percent(f['shared'])}{_ends(f['shared_interval'])}"
            lines.append(
                f"  {whose} dictionary {f['latents']:,} {fires}: shared {shared}   {_counts(f)}   mean max cosine "
                f"{number(f['mean_max_cosine'])}"
            )
        chance = "   ".join(
            f"{kind} {percent(b['shared'])}, cosine {b['mean_max_cosine']:.3f}, sums {percent(b['sum'])}"
            for kind, b in both.items()
        )
        lines.append(f"  directions by chance: {chance}   MCC {'-' if found['mcc'] is None else number(found['mcc'])}")
        if firing := found.get("firing"):
            score = lambda value: "-" if value is None else f"{value:.3f}"
            lines.append(
                f"  firing of {firing['pairs']:,} pairs: F1 {score(firing['f1'])}, by firings "
                f"{score(firing['pooled_f1'])}   correlation "
                f"{score(firing['correlation'])}   same partner by firing {percent(firing['same_partner'])}; best F1 of "
                f"{firing['counted']:,} {score(firing['best_f1'])}, by chance {score(firing['best_f1_chance'])}"
            )
        if lies := found.get("between_sites"):
            where = "   ".join(f"{kind} {count:,} / {lies['other'][kind]:,}" for kind, count in lies["own"].items())
            lines.append(
                f"  by relative decoder norm {where}; pairs alike {percent(lies['agree'])}, by chance "
                f"{percent(lies['by_chance'])}"
            )
        for site, of in found.get("sites", {}).items():
            lines.append(f"  at {site}: shared {percent(of['own']['shared'])}, {_counts(of['own'])}")
    return lines


def summary(results: Results) -> Summary:
    """Figures are of the first of the other dictionaries; the table has all."""
    names = names_of(results)
    first = next(iter(names))
    found = results["against"][first]
    main, own = _main(found), _main(found)["own"]
    ceiling = {
        f"another seed, {names[n]}": _main(f)["own"]
        for n, f in results["against"].items()
        if f["other_seed"] and n != first
    }
    beside = lambda key: {k: b[key] for k, b in found["baselines"].items()} | {n: f[key] for n, f in ceiling.items()}
    ends = own["shared_interval"]
    between = f" ({ends[0]:.1%} to {ends[1]:.1%})" if ends else ""
    firing = found.get("firing")
    fires = "that fire " if "alive" in found else ""
    share = lambda kind: own["kinds"][kind] / max(1, own["latents"])
    of_pairs = firing["f1"] if firing else None
    also = f"; where both have it, they fire together with a mean F1 of {of_pairs:.2f}" if of_pairs is not None else ""
    figures = [
        Figure("shared latents", own["shared"], ends, baselines=beside("shared"), note=_note(results), percent=True),
        Figure(
            "mean max cosine",
            own["mean_max_cosine"],
            own["mean_max_cosine_interval"],
            baselines=beside("mean_max_cosine"),
        ),
        Figure("MCC", found["mcc"], note="of latents matched one to one; all that have a direction"),
        Figure("split latents", share("split"), note="nearest of two or more of the other's", percent=True),
        Figure(
            "sums of several",
            share("sum"),
            baselines={k: b["sum"] for k, b in found["baselines"].items()},
            note=f"not shared, and at most {results['parts']} of the other's together come to them",
            percent=True,
        ),
        Figure("new latents", share("new"), note="neither shared nor such a sum", percent=True),
    ]
    if firing:
        chance = {"best by chance": firing["best_f1_chance"]}
        note = f"{firing['pairs']:,} pairs; rare latents, which are many, agree least"
        figures.append(Figure("firing F1 of shared pairs", of_pairs, baselines=chance, note=note))
        figures.append(Figure("the same by firings", firing["pooled_f1"], note="each pair weighs as it fires"))
    return Summary(
        title="Beside other dictionaries",
        sample=f"{main['own']['latents']:,} latents beside {len(names)} other "
        f"{'dictionary' if len(names) == 1 else 'dictionaries'}, {results['rows']:,} rows",
        says=f"{percent(own['shared'])}{between} of the latents {fires}have one in {names[first]} at a decoder cosine of "
        f"{results['threshold']:g} or more (random directions {percent(found['baselines']['random']['shared'])}), "
        f"{percent(share('sum'))} are sums of several there, and {percent(share('new'))} are new{also}.",
        limits="What is shared may be shared for want of better in both, and what is new may be noise of one training: see "
        "what another seed shares; the threshold is a convention, and the curve shows all of them.",
        figures=figures,
        tables=[_table(results, names)],
        plots=_plots(results, names),
    )


def _note(results: Results) -> str:
    return f"a decoder cosine of {results['threshold']:g} or more"


def _table(results: Results, names: Mapping[str, str]) -> Table:
    columns = ["dictionary", "differs in", "shared", "one", "split", "part", "sum", "new", "MCC", "max cosine", "F1"]
    rows = []
    for name, found in results["against"].items():
        for side, whose in (("own", "this in"), ("other", "back from")):
            f = _main(found)[side]
            score = found.get("firing", {}).get("f1") if side == "own" else None
            last = _round(found["mcc"]), _round(f["mean_max_cosine"]), _round(score)
            rows.append([f"{whose} {names[name]}", told(found), _percent(f["shared"]), *f["kinds"].values(), *last])
        for kind, b in found["baselines"].items():
            blank = ["", "", ""]
            total = found["own"]["latents"]
            many = [*blank, round(b["sum"] * total), ""]
            rows.append(
                [f"  {kind} directions", "", _percent(b["shared"]), *many, "", _round(b["mean_max_cosine"]), ""]
            )
    return Table(
        "Latents by what became of them",
        columns,
        rows,
        "one: one here, one there; split: one here, several there; part: several here, one there; F1: of the firing of pairs",
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _round(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _plots(results: Results, names: Mapping[str, str]) -> list[Plot]:
    series = {names[name]: found["curve"] for name, found in results["against"].items()}
    chance = next(iter(results["against"].values()))["baselines"]
    series |= {f"{kind} directions": b["curve"] for kind, b in chance.items()}
    plots = [
        Plot(
            "Latents that have one as near",
            "decoder cosine, or more",
            "share of the latents",
            results["curve_cosines"],
            series,
        )
    ]
    bins = sorted({b["low"] for f in results["against"].values() for b in f.get("by_frequency", ())})
    if bins:
        by = {names[n]: {b["low"]: b for b in f.get("by_frequency", ())} for n, f in results["against"].items()}
        take = lambda key: {n: [of.get(low, {}).get(key) for low in bins] for n, of in by.items()}
        plots.append(
            Plot(
                "Shared latents by how often they fire",
                "share of the rows a latent fires on",
                "shared",
                [low * 10**0.25 for low in bins],
                take("shared"),
                kind="points",
                intervals=take("shared_interval"),
                log_x=True,
            )
        )
    return plots
