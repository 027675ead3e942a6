"""What the suite `causal` says of a dictionary, in the terminal and in a report."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxsae.evaluate.run import number
from jaxsae.evaluate.says import percent
from jaxsae.evaluate.summary import MORE, Figure, Plot, Summary, Table

WAYS = {
    "latents_by_effect": "latents, by effect",
    "latents_by_means": "latents, by difference of means",
    "probes": "probe directions",
    "random_latents": "latents at random",
}
PAIRED = {
    "latents": "latents that move most",
    "own_components": "components of most difference",
    "coordinates": "coordinates of most difference",
    "components": "first principal components",
    "random_latents": "moved latents at random",
}
SHOWN = 8  # the number of latents, or of directions, that figures are of


def _of(part: Mapping[str, Any], m: int = SHOWN) -> Mapping[str, Any]:
    return next(entry for entry in part if entry["m"] == m)


def summary(e: Mapping[str, Any]) -> Summary:
    """Of the suite's JSON."""
    says, single = [], e["single"]
    if found := e["mediation"]:
        says.append(_mediates(found))
    if moved := e["pairs"]:
        best = _of(moved["recovered"]["latents"])
        says.append(
            f"the {SHOWN} latents that move most between two contexts carry {percent(best['share'])} of the change of "
            f"predictions ({SHOWN} principal components {percent(_of(moved['recovered']['own_components'])['share'])}, all "
            f"latents {percent(moved['all']['share'])}, with the error {percent(moved['whole']['share'])})"
        )
    if not says:
        says.append(f"{len(single)} latents were ablated and clamped")
    text = "; ".join(says)
    return Summary(
        title="Latents changed",
        sample=_sample(e),
        says=f"{text[0].upper()}{text[1:]}.",
        limits="A change that no row of the model's own would show may have effects that the latent never has; one "
        "behaviour, and one kind of pair, say nothing of others; and latents were chosen by their effects, on contexts "
        "apart, where a probe was only fitted.",
        figures=_figures(e),
        tables=_tables(e),
        plots=_plots(e),
    )


def _sample(e: Mapping[str, Any]) -> str:
    parts = [f"{e['predictions']:,} predictions of {e['sequences']:,} {e['unit']}s"]
    if e["pairs"]:
        parts.append(f"{e['pairs']['pairs']:,} pairs of contexts")
    if e["mediation"]:
        parts.append(f"{e['mediation']['contexts']:,} contexts to turn")
    return "; ".join(parts)


def _mediates(found: Mapping[str, Any]) -> str:
    probe, one = found["curves"]["probes"][0], found["curves"]["latents_by_effect"]
    of = found["of"]
    what = f"the belief that {of['square']} is mine" if "square" in of else "the contrast of the pairs"
    like = found["like_probe"]
    more = f"{like} latents do as much" if like else f"no {one[-1]['m']} latents do as much"
    return (
        f"one probe direction takes {what} {percent(probe['share'])} of the way, one latent {percent(one[0]['share'])}, "
        f"{SHOWN} latents {percent(_of(one)['share'])} ({more}; as many at random "
        f"{percent(_of(found['curves']['random_latents'])['share'])}), at {found['most_price']:g} nats at most"
    )


def _figures(e: Mapping[str, Any]) -> list[Figure]:
    out = []
    if found := e["mediation"]:
        curves = found["curves"]
        for m in (1, SHOWN):
            own = _of(curves["latents_by_effect"], m)
            beside = {label: _of(curves[way], m)["share"] for way, label in WAYS.items() if way != "latents_by_effect"}
            beside["difference of means"] = found["mean_difference"]["share"]
            note = "of the way that the rules ask for" if "square" in found["of"] else "of the change of predictions"
            label = f"state turned by {m} latent{'s' if m > 1 else ''}"
            out.append(Figure(label, own["share"], own["interval"], MORE, beside, note, percent=True))
        out.append(Figure("latents for one probe direction", found["like_probe"], note="the fewest that do as much"))
    if moved := e["pairs"]:
        own = _of(moved["recovered"]["latents"])
        beside = {PAIRED[way]: _of(moved["recovered"][way])["share"] for way in list(PAIRED)[1:]}
        beside |= {"all latents": moved["all"]["share"], "with the error": moved["whole"]["share"]}
        figure = f"predictions carried by {SHOWN} latents"
        out.append(Figure(figure, own["share"], own["interval"], MORE, beside, "between paired contexts", percent=True))
        whole = moved["explained"]
        out.append(
            Figure("difference explained", whole["share"], whole["interval"], MORE, note="of activations", percent=True)
        )
        out.append(
            Figure(
                "latents of half the change",
                moved["latents_of_half"],
                baselines={"moved": moved["moved"], "of 90%": moved["latents_of_90_percent"]},
                note="of a pair, by size",
            )
        )
    return out


def _tables(e: Mapping[str, Any]) -> list[Table]:
    columns = (
        "latent",
        "fires on",
        "KL ablated, where it fires",
        "another latent",
        "difference of means",
        "random direction",
    )
    columns += ("delta CE", "raises", "lowers")
    rows = []
    for each in e["single"]:
        by = each["ablated"]
        kl = [by[way]["kl_where_it_fires"] for way in ("latent", "other_latent", "mean_difference", "random_direction")]
        words = [" ".join(f"{word} {change:+.2f}" for word, change in each[end][:3]) for end in ("raised", "lowered")]
        rows.append([each["latent"], percent(each["frequency"]), *kl, by["latent"]["delta_ce"], *words])
    note = "steps of the same length at the same rows; changes of logits are those of the ablation"
    out = [Table("Ablated", columns, rows, note)]
    rows = []
    for each in e["single"]:
        for part in each["clamped"]:
            own, other = part["latent"], part["random_direction"]
            rows.append([each["latent"], part["strength"], own["effect"], own["kl"], other["effect"], other["kl"]])
    columns = ("latent", "strength", "effect", "price", "effect, random direction", "price, random direction")
    note = "strength: of the largest value; effect: rise of the log-probability of the token it raises most, chosen on half "
    note += "the sequences and measured on the others where the latent fires; price: KL of all predictions, nats"
    out.append(Table("Clamped", columns, rows, note))
    if found := e["mediation"]:
        columns = ("by", *(f"within {budget:g} nats" for budget in found["budgets"]))
        rows = [[name, *map(percent, at)] for name, at in found["at_price"].items()]
        out.append(Table("The state turned, at equal prices", columns, rows, "price: KL among all other tokens"))
    return out


def _plots(e: Mapping[str, Any]) -> list[Plot]:
    out = []
    if found := e["mediation"]:
        of = found["of"]
        title = f"Latents against probes on {of['square']}" if "square" in of else "Latents against probes on the pairs"
        guides = {"difference of means": found["mean_difference"]["share"] or 0.0}
        out.append(_curves(title, "share of the way", found["curves"], WAYS, guides))
        xs = found["budgets"]
        sweeps = {name: list(at) for name, at in found["at_price"].items()}
        label = "share of the way"
        out.append(Plot("Steering and its price", "KL among other tokens, nats", label, xs, sweeps, log_x=True))
    if moved := e["pairs"]:
        ends = {"all latents": moved["all"]["share"], "with the error": moved["whole"]["share"]}
        guides = {name: value for name, value in ends.items() if value is not None}
        title = "Change of predictions carried between contexts"
        out.append(_curves(title, "share of the change", moved["recovered"], PAIRED, guides))
    return out


def _curves(
    title: str, y: str, curves: Mapping[str, Any], names: Mapping[str, str], guides: Mapping[str, float] | None = None
) -> Plot:
    pick = lambda figure: {label: [part[figure] for part in curves[way]] for way, label in names.items()}
    xs = [part["m"] for part in next(iter(curves.values()))]
    x = "latents, or directions"
    return Plot(title, x, y, xs, pick("share"), intervals=pick("interval"), log_x=True, guides=guides or {})


def _priced(name: str, shares: Sequence[float]) -> str:
    return f"{name} {' '.join(map(percent, shares))}"


def table(e: Mapping[str, Any]) -> list[str]:
    """The figures in a few lines."""
    lines = [f"{_sample(e)}   put back: kl {e['put_back_kl']:.1e}"]
    for each in e["single"]:
        by = each["ablated"]
        beside = ", ".join(f"{way.replace('_', ' ')} {number(by[way]['kl_where_it_fires'])}" for way in list(by)[1:])
        words = " ".join(f"{word} {change:+.2f}" for word, change in (each["raised"][:2] + each["lowered"][:2]))
        lines.append(
            f"latent {each['latent']} (fires on {percent(each['frequency'])}) ablated: kl where it fires "
            f"{number(by['latent']['kl_where_it_fires'])} ({beside})   delta_ce {number(by['latent']['delta_ce'])}   {words}"
        )
    shares = lambda parts: "   ".join(f"{part['m']}: {percent(part['share'])}" for part in parts)
    if moved := e["pairs"]:
        lines.append(
            f"{moved['pairs']} pairs: {moved['moved']:.1f} latents move (l0 {moved['l0']:.1f}), half of it in "
            f"{moved['latents_of_half']:.1f}, 90% in {moved['latents_of_90_percent']:.1f}; they explain "
            f"{percent(moved['explained']['share'])} of the difference; predictions carried by all "
            f"{percent(moved['all']['share'])}, with the error {percent(moved['whole']['share'])}"
        )
        lines += [f"  by {label:<33} {shares(moved['recovered'][way])}" for way, label in PAIRED.items()]
    if found := e["mediation"]:
        lines.append(
            f"{_mediates(found)}   ({found['contexts']} contexts; errors untouched {number(found['base']['errors'])})"
        )
        for way, label in WAYS.items():
            ends = _of(found["curves"][way])["interval"]
            shown = f"   [{percent(ends[0])}, {percent(ends[1])}] at {SHOWN}" if ends else ""
            lines.append(f"  by {label:<33} {shares(found['curves'][way])}{shown}")
        lines.append(f"  by {'difference of means':<33} {shares([found['mean_difference']])}")
        prices = "  ".join(f"{budget:g}" for budget in found["budgets"])
        lines.append(f"  within {prices} nats: " + "   ".join(_priced(*item) for item in found["at_price"].items()))
    else:
        lines.append(f"no mediation: {e['no_mediation']}")
    return lines
