"""What the probes' figures say."""

from collections.abc import Mapping
from typing import Any

from jaxsae.evaluate.run import number
from jaxsae.evaluate.summary import MORE, Figure, Plot, Summary, Table

Results = Mapping[str, Any]
_SHOWN = ("raw", "pca_all", "reconstruction", "knn")
_SPARSE = ("latents", "coordinates", "pca", "random_dictionary", "control")


def summary(e: Results) -> Summary:
    """Of `probing`."""
    ks, mean = e["constants"]["k"], e["mean"]
    auroc = lambda name: mean["probes"].get(name, {}).get("auroc", {}).get("value")
    sparse = lambda kind: [auroc(f"{kind}_{k}") for k in ks]
    beside = lambda k: {
        name: auroc(name) for name in (*_SHOWN, *(f"{kind}_{k}" for kind in _SPARSE[1:])) if auroc(name)
    }
    figures = [
        Figure(
            f"probe AUROC, {k} latent{'s' if k > 1 else ''}",
            auroc(f"latents_{k}"),
            mean["probes"][f"latents_{k}"]["auroc"]["interval"],
            MORE,
            beside(k),
            f"mean of {mean['tasks']} tasks, {e['constants']['pool']}-pooled or by token",
        )
        for k in ks
    ]
    figures += [
        Figure(
            f"{ks[-1]} latents less {name.replace('_', ' ')}",
            part["auroc"]["value"],
            part["auroc"]["interval"],
            MORE,
            note="AUROC, paired",
        )
        for name, part in mean["differences"][f"latents_{ks[-1]}"].items()
        if name != "majority"
    ]
    lines = {kind.replace("_", " "): sparse(kind) for kind in _SPARSE if auroc(f"{kind}_{ks[0]}") is not None}
    shown = {name.replace("_", " "): auroc(name) for name in _SHOWN if auroc(name) is not None}
    bands = {"latents": [mean["probes"][f"latents_{k}"]["auroc"]["interval"] for k in ks]}
    label = "AUROC, mean of all tasks"
    plot = Plot("Probes by how many units they have", "k", label, ks, lines, intervals=bands, log_x=True, guides=shown)
    return Summary(
        title="Probes",
        sample=sample(e),
        says=said(e),
        limits="A probe finds what can be read off, not what the model uses; few latents lose to the whole activation where "
        "a property has no latent of its own, and nearly all properties can be read off many latents.",
        figures=figures,
        tables=[by_task(e)],
        plots=[plot],
    )


def sample(e: Results) -> str:
    """On how much."""
    parts = []
    for one in e["sets"]:
        of = f" ({one['rows']['test']:,} rows)" if one["pool"] == "token" else f", {one['pool']}-pooled"
        parts.append(
            f"{one['set']}: {one['contexts']['test']:,} held-out {one['unit']}s{of}, {len(one['tasks'])} tasks"
        )
    return "; ".join(parts)


def said(e: Results) -> str:
    """In a sentence who wins."""
    ks, mean = e["constants"]["k"], e["mean"]
    value = lambda name: number(mean["probes"][name]["auroc"]["value"])
    k = ks[-1]
    ahead = mean["differences"][f"latents_{k}"]["raw"]["auroc"]
    low, high = ahead["interval"] or (0.0, 0.0)
    who = "the latents win" if low > 0 else "the raw activations win" if high < 0 else "neither wins"
    one = f"a single latent tells a task with AUROC {value(f'latents_{ks[0]}')}, and " if ks[0] == 1 and k > 1 else ""
    headed = [s for s in e["sets"] if s["pool"] in ("token", e["constants"]["pool"])]
    beaten = sum(
        task["differences"][f"latents_{k}"]["raw"]["auroc"]["value"] > 0 for s in headed for task in s["tasks"]
    )
    return (
        f"On average over {mean['tasks']} tasks {one}{k} latents with {value(f'latents_{k}')}, beside {value('raw')} of "
        f"logistic regression on the raw activations: {who} ({ahead['value']:+.4f} [{low:+.4f}, {high:+.4f}]; latents are "
        f"ahead in {beaten} tasks); {k} principal components have {value(f'pca_{k}')}."
    )


def _others(e: Results) -> list[str]:
    """Poolings that the means leave out."""
    return sorted({one["pool"] for one in e["sets"]} - {"token", e["constants"]["pool"]})


def by_task(e: Results) -> Table:
    """AUROC of each task."""
    k = e["constants"]["k"][-1]
    names = ["latents_1", f"latents_{k}", "raw", f"pca_{k}", "knn", f"random_dictionary_{k}"]
    names = list(dict.fromkeys(names))
    rows = []
    for one in e["sets"]:
        for task in one["tasks"]:
            ahead = task["differences"][f"latents_{k}"]["raw"]["auroc"]
            low, high = ahead["interval"] or (None, None)
            found = [task["probes"].get(name, {}).get("auroc", {}).get("value") for name in names]
            chosen = task["chose"][f"latents_{k}"]["chosen"][:5]
            rows.append(
                [
                    f"{one['set']}, {one['pool']}: {task['task']}",
                    task["share"]["test"],
                    *found,
                    f"{ahead['value']:+.4f} [{number(low)}, {number(high)}]",
                    " ".join(map(str, chosen)),
                ]
            )
    columns = ["task", "share", *(name.replace("_", " ") for name in names), f"{k} latents less raw", "latents chosen"]
    return Table(
        "AUROC of each task", columns, rows, "on contexts that nothing was fitted to; first the best of the latents"
    )


def table(results: Results) -> list[str]:
    """The figures in a few lines."""
    ks, lines = results["constants"]["k"], [sample(results)]
    for one in (
        *results["sets"],
        {
            "set": "all",
            "pool": f"but {'/'.join(_others(results))}" if _others(results) else "",
            "mean": results["mean"],
        },
    ):
        found = one["mean"]["probes"]
        value = lambda name, found=found: number(found[name]["auroc"]["value"]) if name in found else "-"
        title = " ".join(part for part in (one["set"], one["pool"]) if part)
        for kind in _SPARSE:
            if f"{kind}_{ks[0]}" in found:
                shown = "   ".join(f"k {k}: {value(f'{kind}_{k}')}" for k in ks)
                lines.append(f"{title:<16} AUROC {kind:<18} {shown}")
        lines.append(f"{title:<16} AUROC " + "   ".join(f"{name} {value(name)}" for name in _SHOWN))
        for k in ks if one["set"] == "all" else ks[-1:]:
            less = one["mean"]["differences"][f"latents_{k}"]
            ends = lambda part: f"{part['value']:+.4f} [{number(part['interval'][0])}, {number(part['interval'][1])}]"
            shown = [f"{name} {ends(less[name]['auroc'])}" for name in ("raw", f"pca_{k}", "knn") if name in less]
            lines.append(f"{title:<16} {k} latents less   " + "   ".join(shown))
    return [*lines, said(results)]
