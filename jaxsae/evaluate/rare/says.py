"""What `rare` says, in a table and in a sentence."""

from collections.abc import Mapping
from typing import Any

from jaxsae.evaluate.says import percent
from jaxsae.evaluate.summary import LESS, MORE, Figure, Plot, Summary, Table

Results = Mapping[str, Any]
TWO = "two widths give a slope, and no test of whether it is a law"


def threshold(law: Results) -> str:
    """f50 and its interval, or the bound there is."""
    low, high = law["interval"]
    if law["f50"] is None:
        if high is not None:
            return f"below {high:.1e}"
        return f"above {low:.1e}" if low is not None else "unknown"
    ends = ", ".join("?" if end is None else f"{end:.1e}" for end in (low, high))
    return f"{law['f50']:.1e} [{ends}]"


def exponent(power: Results | None) -> str:
    """a and its interval."""
    if power is None:
        return "none: it needs two widths that find some of the planted features, and not all"
    ends = ", ".join("?" if end is None else f"{end:.2f}" for end in power["interval"])
    tested = (
        f"; P {power['test']:.2f} that widths stray as far from a power law by chance"
        if power["test"] is not None
        else ""
    )
    return f"{power['exponent']:.2f} [{ends}]{tested}"


def table(results: Results) -> list[str]:
    """A line for each width, with a column for each frequency, and the law."""
    needs = results["thresholds"]
    lines = [
        f"{results['features']} planted features of {len(results['frequencies'])} frequencies, {results['seeds']} seed(s), "
        f"length {results['length']:.3g}; {results['rows']:,} rows, {results['steps']:,} steps of {results['batch_size']:,}; "
        f"found: cosine {needs['cosine']:g} and F1 {needs['f1']:g} or more",
        f"{'frequency':>14} " + " ".join(f"{f:>8.0e}" for f in results["frequencies"]),
    ]
    share = lambda value: f"{'-':>8}" if value is None else f"{value:>8.0%}"
    for width, of in results["widths"].items():
        lines.append(
            f"{'width ' + width:>14} " + " ".join(map(share, of["found"])) + f"   FVU {of['fvu']:.3f} L0 {of['l0']:.1f}"
        )
        lines.append(
            f"{'cosine':>14} " + " ".join(f"{'-' if c is None else format(c, '.2f'):>8}" for c in of["cosine"])
        )
    for width, of in results["widths"].items():
        less = ", ".join(f"at a cosine of {cosine} {threshold(law)}" for cosine, law in of["laws"].items())
        absent = of["absent"]
        lines.append(
            f"width {width}: half found at {threshold(of['law'])} of the rows; {less}; directions that were not planted: "
            f"cosine {absent['mean']:.2f}, at most {absent['largest']:.2f}"
        )
    less = "".join(f"; at a cosine of {cosine} {exponent(power)}" for cosine, power in results["powers"].items())
    lines.append(f"f50 falls as width to the minus {exponent(results['power'])}{less}")
    if len(results["widths"]) == 2:
        lines.append(TWO)
    lines.append(f"found by principal components: {percent(results['baselines']['pca'])}")
    return lines


def summary(results: Results) -> Summary:
    """Of the widest dictionary, and of the law."""
    widths, power = results["widths"], results["power"]
    widest = list(widths)[-1]
    main = widths[widest]
    half = "; ".join(f"{threshold(of['law'])} at width {int(width):,}" for width, of in widths.items())
    slope = "" if power is None else f", falling as width to the minus {exponent(power)}"
    near, of_near = next(iter(results["powers"].items()))
    if of_near:  # latents of rare features find their direction late, and at a high cosine that is all one sees
        slope += f" (where a cosine of {near} is enough, to the minus {exponent(of_near)})"
    how = {1: "one width says nothing of others", 2: TWO}.get(
        len(widths), "a power law is one of the curves that may fit"
    )
    figures = [
        Figure(
            "planted features found",
            main["share"],
            main["share_interval"],
            MORE,
            {"PCA": results["baselines"]["pca"], "not planted": main["absent"]["found"]},
            f"of {results['features']}, at width {widest}",
            percent=True,
        )
    ]
    for width, of in widths.items():
        figures.append(_figure(f"f50, width {width}", of["law"]))
    if power:
        figures.append(
            Figure("exponent of f50 by width", power["exponent"], power["interval"], MORE, note="f50 = C width^-a")
        )
    for cosine, of in results["powers"].items():
        if of:
            name = f"exponent of f50 by width, at a cosine of {cosine}"
            figures.append(Figure(name, of["exponent"], of["interval"], MORE))
    return Summary(
        title="Rare features",
        sample=f"{results['features']} planted features, {results['seeds']} seed(s), {results['rows']:,} rows, "
        f"{results['steps']:,} steps",
        says=f"Trained on rows with planted features as this run was, dictionaries find half of the features that stand on a "
        f"share of {half} of the rows{slope}.",
        limits=f"Planted features are straight, independent of all else and {results['length']:.3g} long, which real ones "
        f"are not; the law is of so many rows and steps; intervals are over features, of {results['seeds']} training(s) a "
        f"width; {how}.",
        figures=figures,
        tables=[_table(results)],
        plots=_plots(results),
    )


def _figure(name: str, law: Results) -> Figure:
    whole = law["f50"] is not None and None not in law["interval"]
    note = "share of the rows at which half are found" if law["f50"] is not None else threshold(law)
    return Figure(name, law["f50"], law["interval"] if whole else None, LESS, note=note)


def _table(results: Results) -> Table:
    rows = [
        [
            f"{f:.1e}",
            round(f * results["rows"]),
            *(_cell(key, of[key][i]) for of in results["widths"].values() for key in ("found", "cosine")),
        ]
        for i, f in enumerate(results["frequencies"])
    ]
    columns = [f"{what}, width {width}" for width in results["widths"] for what in ("found", "cosine")]
    needs = results["thresholds"]
    note = f"found: a decoder cosine of {needs['cosine']:g} or more and F1 of {needs['f1']:g} or more at that frequency"
    return Table("Planted features found", ["share of the rows", "rows", *columns], rows, note)


def _cell(key: str, value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}" if key == "found" else f"{value:.2f}"


def _plots(results: Results) -> list[Plot]:
    widths = results["widths"]
    named = lambda key: {f"width {width}": of[key] for width, of in widths.items()}
    found = Plot(
        "Planted features found, by frequency",
        "share of the rows a feature stands on",
        "found",
        results["frequencies"],
        named("found"),
        intervals=named("found_interval"),
        log_x=True,
    )
    laws = [of["law"] for of in widths.values()]
    ends = [law["interval"] if law["f50"] is not None and None not in law["interval"] else None for law in laws]
    power, series = results["power"], {"half found at": [law["f50"] for law in laws]}
    for cosine in results["powers"]:
        series[f"at a cosine of {cosine}"] = [of["laws"][cosine]["f50"] for of in widths.values()]
    if power:
        series["power law"] = [power["scale"] * int(width) ** -power["exponent"] for width in widths]
    half = Plot(
        "The frequency at which half are found, by width",
        "width",
        "share of the rows",
        [int(width) for width in widths],
        series,
        intervals={"half found at": ends},
        log_x=True,
        log_y=True,
    )
    return [found, half] if len(widths) > 1 else [found]
