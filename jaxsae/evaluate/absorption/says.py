"""What absorption's figures say."""

from collections.abc import Mapping
from typing import Any

from jaxsae.evaluate.run import number
from jaxsae.evaluate.says import percent
from jaxsae.evaluate.summary import LESS, Figure, Summary, Table

Results = Mapping[str, Any]
_LISTED = 12


def value(part: Mapping[str, Any] | None, name: str) -> float | None:
    """A figure of a dictionary, None where it has none."""
    found = (part or {}).get(name)
    return found["value"] if found else None


def summary(e: Results) -> Summary:
    """Of `absorption`."""
    figures = [
        Figure(
            title,
            value(e, name),
            e[name]["interval"] if e[name] else None,
            LESS,
            {other.replace("_", " "): value(part, name) for other, part in e["baselines"].items() if part},
            note,
            percent=True,
        )
        for title, name, note in (
            ("absorption", "score", f"absorbed / (absorbed + main), mean of {e['parents']} parents"),
            ("absorption rate", "rate", "absorbed / rows on which the probe is right: SAEBench's full absorption"),
            ("absorption fraction", "fraction", "SAEBench's mean absorption fraction"),
            ("silent main latents", "silent", "rows on which the probe is right and no main latent fires"),
        )
    ]
    every = e["by_origin"]["any_main"][e["origin"]]
    figures.append(
        Figure(
            "absorption, all parents",
            value(every, "score"),
            every["score"]["interval"] if every["score"] else None,
            LESS,
            note=f"of all {every['parents']} with a probe, whatever their main latents say, as SAEBench counts",
            percent=True,
        )
    )
    figures.append(Figure("main latents of a parent", e["main_latents"], note="above 1: split features"))
    return Summary(
        title="Absorption of first letters" if e["task"] == "first letters" else "Absorption on the board",
        sample=sample(e),
        says=said(e),
        limits="The score depends on its constants and on the probes, and counts no parent without main latents: a "
        "dictionary that gives a property no latent at all has nothing to absorb; compare at equal width and L0 alone.",
        figures=figures,
        tables=[by_parent(e), constants(e)],
    )


def sample(e: Results) -> str:
    """On how much."""
    of = f"{e['games']['judge']:,} games" if "games" in e else f"{e['words']['judge']:,} words"
    return f"{e['rows']['judge']:,} rows of {of}; {e['parents']} of {e['asked']} parents counted"


def said(e: Results) -> str:
    """In a sentence."""
    if not e["parents"]:
        return (
            f"None of {e['asked']} parents has both a probe of F1 {e['constants']['probe_f1']:g} and main latents that come "
            "near it, so nothing can be said of absorption."
        )
    score, low, high = e["score"]["value"], *e["score"]["interval"]
    worst = max((one for one in e["by_parent"] if one["counts"]), key=lambda one: one[e["origin"]]["score"] or 0)
    own = worst[e["origin"]]
    by = f", most often by latent {own['absorbers'][0]['latent']}" if own["absorbers"] else ""
    random = e["baselines"]["random_dictionary"]
    if random is not None:
        known = value(random, "score")
        beside = (
            " (along random directions no parent counts)" if known is None else f" (random directions {percent(known)})"
        )
    every = e["by_origin"]["any_main"][e["origin"]]
    return (
        f"Where a parent's main latents ought to fire, another latent carries its direction instead in {percent(score)} of "
        f"cases [{low:.1%}, {high:.1%}]{beside if random else ''}, of all {every['parents']} parents, whatever their main "
        f"latents say, in {percent(value(every, 'score'))}; the most absorbed of {e['parents']} parents is "
        f"{worst['parent']}, {percent(own['score'])}{by}."
    )


def by_parent(e: Results) -> Table:
    """Of the parents that count, the most absorbed first."""
    shown = sorted((p for p in e["by_parent"] if p["counts"]), key=lambda p: -(p[e["origin"]]["score"] or 0))[:_LISTED]
    rows = [
        [
            p["parent"],
            p["probe_f1"],
            p["sparse_f1"],
            " ".join(map(str, p["main_latents"])),
            p["true"],
            p[e["origin"]]["main"],
            p[e["origin"]]["absorbed"],
            p[e["origin"]]["score"],
            " ".join(f"{a['latent']} ({a['rows']})" for a in p[e["origin"]]["absorbers"][:3]),
        ]
        for p in shown
    ]
    columns = [
        "parent",
        "F1 probe",
        "F1 main",
        "main latents",
        "rows",
        "main fires",
        "absorbed",
        "score",
        "absorbed by (rows)",
    ]
    return Table("The most absorbed parents", columns, rows, "rows: on which the parent holds and the probe says so")


def constants(e: Results) -> Table:
    """As they were."""
    return Table(
        "Constants", ["constant", "value"], [[k, v] for k, v in e["constants"].items()], "papers differ in them"
    )


def table(results: Results) -> list[str]:
    """The figures in a few lines."""
    shown = "   ".join(f"{name} {value}" for name, value in results["constants"].items())
    lines = [f"{results['task']}: {sample(results)}   l0 {results['l0']:.2f}", f"constants: {shown}"]
    kinds = {"latents": results, **results["baselines"]}
    for name, part in kinds.items():
        if part is None or not part["parents"]:
            lines.append(f"{name:<18} " + ("not measured" if part is None else "no parent counts"))
            continue
        ends = lambda key, part=part: f"{number(part[key]['value'])} [{', '.join(map(number, part[key]['interval']))}]"
        shown = "   ".join(f"{key} {ends(key)}" for key in ("score", "rate", "fraction", "silent") if part[key])
        lines.append(f"{name:<18} {shown}   main latents {part['main_latents']:.2f}   ({part['parents']} parents)")
    for origin in ("zero", "b_dec"):
        part = results["by_origin"][origin]
        other = results["by_origin"]["any_main"][origin]
        every = f"{number(value(other, 'score'))}, {number(value(other, 'fraction'))}"
        lines.append(
            f"from {origin:<6} score {number(value(part, 'score'))}   fraction {number(value(part, 'fraction'))}   of all "
            f"{other['parents']} parents with a good probe {every}"
        )
    return [*lines, said(results)]
