"""What the suite `latents` says of a dictionary in a report."""

from collections.abc import Mapping
from typing import Any

from jaxsae.evaluate.says import percent
from jaxsae.evaluate.summary import LESS, MORE, Figure, Plot, Summary, Table

HALF = 5  # the place of a cut at 50% among the cuts
_NAMES = {
    "high": "high alone",
    "random": "as many at random",
    "random_in_row": "as many of the row",
    "low": "low alone",
}


def summary(e: Mapping[str, Any]) -> Summary:
    """Of the suite's JSON."""
    told, spliced = e["frequency"], e["spliced"]
    cover, half, whole = e["coverage"][HALF], spliced["cuts"][HALF], spliced["cuts"][0]["high"]
    rare = told["ultra_rare"]
    few = told["rows"] < told["rows_to_tell"]
    sites = e["basis"]
    return Summary(
        title="Latents one by one",
        sample=f"{told['rows']:,} rows of {told['sequences']:,} {e['unit']}s; spliced: {spliced['predictions']:,} "
        f"predictions of {spliced['sequences']:,}",
        says=f"Activations of half their latent's largest or more are {percent(cover['activations'])} of all, reach "
        f"{percent(cover['covered'])} of tokens and cost the model {half['high']['delta_ce']:.3f} nats a token where they "
        f"stand alone (as many at random {half['random']['delta_ce']:.3f}, the low ones alone {half['low']['delta_ce']:.3f}, "
        f"all {whole['delta_ce']:.3f}).",
        limits=f"A latent that is silent on these rows may fire on up to {told['silent_below']:.1e} of others"
        + (
            f", so that nothing is said of frequencies below 1e-4 (that needs {told['rows_to_tell']:,} rows)"
            if few
            else ""
        )
        + "; what high activations carry does not say that they mean one thing, and a lens sees no later block.",
        figures=[*_frequency(told, rare), *_carried(e), *_aligned(sites), *_lens(e)],
        tables=_tables(e),
        plots=_plots(e),
    )


def _frequency(told: Mapping[str, Any], rare: Mapping[str, Any]) -> list[Figure]:
    of = f" of {told['latents']:,}"
    between = lambda part: f"{part['sure']:,} for sure, {part['open']:,} open at 95%"
    dead, dense, latents = told["dead"], told["dense"], told["latents"]
    ends = lambda part: [part["sure"] / latents, (part["sure"] + part["open"]) / latents]
    woken = (
        f"; of those silent on one half {percent(dead['woken'])} fire on the other" if dead["woken"] is not None else ""
    )
    return [
        Figure(
            "silent latents", dead["share"], better=LESS, percent=True, note=f"{dead['count']:,}{of}, on no row{woken}"
        ),
        Figure(
            "ultra-rare latents",
            None if told["rows"] < told["rows_to_tell"] else rare["share"],
            ends(rare),
            percent=True,
            note=f"on less than 1e-4 of rows, which {told['rows_to_tell']:,} rows tell: {between(rare)}",
        ),
        Figure(
            "dense latents",
            dense["share"],
            ends(dense),
            percent=True,
            note=f"on more than 1 row in 10: {between(dense)}",
        ),
    ]


def _carried(e: Mapping[str, Any]) -> list[Figure]:
    cover, half, base = e["coverage"][HALF], e["spliced"]["cuts"][HALF], e["spliced"]["baselines"]
    beside = lambda name: {
        "as many at random": half["random"][name],
        "as many of the row": half["random_in_row"][name],
        "low alone": half["low"][name],
        "all": e["spliced"]["cuts"][0]["high"][name],
        **{part: base[part][name] for part in base},
    }
    high = half["high"]
    return [
        Figure(
            "tokens covered by high activations",
            cover["covered"],
            cover["covered_interval"],
            MORE,
            note="with an activation of half its latent's largest",
            percent=True,
        ),
        Figure(
            "delta CE of high activations",
            high["delta_ce"],
            high["delta_ce_interval"],
            LESS,
            beside("delta_ce"),
            "nats a token, half of the largest or more",
        ),
        Figure("KL of high activations", high["kl"], high["kl_interval"], LESS, beside("kl"), "nats a token"),
    ]


def _aligned(sites: Mapping[str, Any]) -> list[Figure]:
    out = []
    for site, found in sites.items():
        end = "" if len(sites) == 1 else f", {site}"
        own, outliers = found["latents"], found["outliers"]
        out.append(
            Figure(
                f"latents along an axis{end}",
                own["along"],
                own["along_interval"],
                baselines={name: part["along"] for name, part in found["baselines"].items()},
                note=f"largest entry above {found['random_limit']:.2f}, which 1 random direction in 100 passes",
                percent=True,
            )
        )
        out.append(
            Figure(
                f"decoder in outlier dimensions{end}",
                outliers["share_of_decoder"],
                baselines={
                    "of the variance": outliers["share_of_variance"],
                    "of all axes": outliers["share_of_dimensions"],
                },
                note=f"{outliers['dimensions']} dimensions",
                percent=True,
            )
        )
    return out


def _lens(e: Mapping[str, Any]) -> list[Figure]:
    if not e.get("lens"):
        return []
    found, true = e["lens"], e["lens"]["comes_true"]
    what = "promoted move is legal" if true["of"] == "legal" else f"next token among the {true['tokens']} promoted"
    return [
        Figure(
            what,
            true["latents"]["share"],
            true["latents"]["interval"],
            MORE,
            {name: true[name]["share"] for name in ("shuffled", "random")},
            "where the latent fires, by the logit lens",
            percent=True,
        ),
        *(
            Figure(
                f"{name} latents",
                found[name]["share"],
                found[name]["interval"],
                note=f"logit weights of an excess kurtosis above {found['kurtosis_limit']:.1f}",
                baselines={"random": found[name]["random"]},
                percent=True,
            )
            for name in ("promoting", "suppressing")
        ),
    ]


def _tables(e: Mapping[str, Any]) -> list[Table]:
    columns = ("cut", "activations left", "tokens covered", *(f"delta CE, {name}" for name in _NAMES.values()))
    rows = []
    for cover, part in zip(e["coverage"], e["spliced"]["cuts"], strict=True):
        costs = [None if part[name] is None else part[name]["delta_ce"] for name in _NAMES]
        rows.append([f"{cover['cut']:.0%}", percent(cover["activations"]), percent(cover["covered"]), *costs])
    out = [
        Table("High activations alone", columns, rows, "share of its latent's largest from which an activation is kept")
    ]
    if e.get("lens"):
        columns = ("latent", "frequency", "kurtosis", "skew", "promotes", "suppresses")
        rows = [
            [x["latent"], x["frequency"], x["kurtosis"], x["skew"], " ".join(x["promoted"]), " ".join(x["suppressed"])]
            for x in e["lens"]["examples"]
        ]
        out.append(Table("Logit lens", columns, rows, "latents that move the fewest tokens; all are in latents.npz"))
    return out


def _plots(e: Mapping[str, Any]) -> list[Plot]:
    cuts, parts = [100 * part["cut"] for part in e["coverage"]], e["spliced"]["cuts"]
    pick = lambda name, figure: [None if part[name] is None else part[name][figure] for part in parts]
    base, told = e["spliced"]["baselines"], e["frequency"]["frequency"]
    return [
        Plot(
            "What high activations alone carry",
            "kept from this share of the latent's largest, %",
            "delta CE, nats a token",
            cuts,
            {label: pick(name, "delta_ce") for name, label in _NAMES.items()},
            intervals={label: pick(name, "delta_ce_interval") for name, label in _NAMES.items()},
            guides={f"{name} in its place": part["delta_ce"] for name, part in base.items()},
        ),
        Plot(
            "What they reach",
            "kept from this share of the latent's largest, %",
            "share",
            cuts,
            {
                "tokens covered": [part["covered"] for part in e["coverage"]],
                "activations left": [part["activations"] for part in e["coverage"]],
            },
            intervals={"tokens covered": [part["covered_interval"] for part in e["coverage"]]},
        ),
        Plot(
            "How often latents fire",
            "share of rows, log10",
            "latents",
            [f"{edge:g}" for edge in told["edges"][:-1]],
            {"latents": told["counts"]},
            kind="bars",
        ),
    ]
