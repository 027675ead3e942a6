"""What reconstruction, splice, attribution and decomposability say of a dictionary."""

from collections.abc import Mapping
from typing import Any

from jaxsae.evaluate.summary import LESS, MORE, Figure, Summary

Results = Mapping[str, Any]


def number(value: float | None, digits: int = 4) -> str:
    """A figure in a sentence."""
    return "an unknown share" if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """A share in a sentence."""
    return "an unknown share" if value is None else f"{value:.1%}"


def reconstruction(e: Results) -> Summary:
    """Of `reconstruction`."""
    others = {name: part.get("fvu") for name, part in e["baselines"].items()}
    words = {
        "pca_k": f"{e['baselines'].get('pca_k', {}).get('components')} principal components",
        "linear": "a linear map",
    }
    beside = ", ".join(f"{words.get(name, name)} {percent(value)}" for name, value in others.items() if name != "mean")
    return Summary(
        title="Reconstruction",
        sample=f"{e['rows']:,} {'held-out rows' if e['held_out'] else 'rows of another store'}",
        says=f"With {e['l0']:.1f} latents a row the dictionary leaves {percent(e['fvu'])} of the variance ({beside}).",
        limits="A small error says nothing of what the model does with what is left out, nor of whether latents mean "
        "something; compare dictionaries at equal L0 alone.",
        figures=[
            Figure("FVU", e["fvu"], better=LESS, baselines=others, note="fraction of variance unexplained"),
            Figure("L0", e["l0"], better=LESS, note="active latents of a row"),
            Figure("gamma", e["gamma"], note="below 1: reconstructions are too short"),
            Figure("dead latents", e["dead_fraction"], better=LESS, percent=True, note="fire on none of these rows"),
        ],
    )


def splice(e: Results) -> Summary:
    """Of `splice`, in text and in games."""
    many = f"{e['tokens']:,} predictions" + (f" of {e['games']:,} games" if "games" in e else "")
    ce = e["ce"]
    zero, mean = (e[f"ce_{name}"] - ce for name in ("zero", "mean"))
    return Summary(
        title="In the model",
        sample=many,
        says=f"With the reconstruction in its place the model loses {number(e['delta_ce'])} nats a token (zeros "
        f"{number(zero)}, the mean {number(mean)}), and its predictions move by {number(e['kl'])} nats.",
        limits="One site is replaced at a time, on text like that of training: what several dictionaries cost together, "
        "or what a rare ability loses, is not in this mean; loss recovered flatters, since zeros ruin any model.",
        figures=[
            Figure(
                "delta CE", e["delta_ce"], e["delta_ce_interval"], LESS, {"zero": zero, "mean": mean}, "nats a token"
            ),
            Figure(
                "KL",
                e["kl"],
                e.get("kl_interval"),
                LESS,
                {name: e[f"kl_{name}"] for name in ("zero", "mean") if f"kl_{name}" in e},
                "of original || spliced, nats a token",
            ),
            Figure("loss recovered", e["loss_recovered"], better=MORE, note="for comparison alone"),
        ],
    )


def attribution(e: Results) -> Summary:
    """Of `attribution`."""
    by_activation = e["baselines"]["activation"]
    return Summary(
        title="Attribution",
        sample=f"{e['tokens']:,} tokens of {e['sequences']:,} sequences",
        says=f"Half of what latents do to the loss, to first order, is done by {e['latents_of_half']:,} of them (by "
        f"activation {by_activation['latents_of_half']:,}); the error carries {percent(e['unexplained'])} of all.",
        limits="First order is a slope and no effect: see how far along the error it holds; latents that only matter "
        "together are not told apart.",
        figures=[
            Figure(
                "unexplained attribution",
                e["unexplained"],
                better=LESS,
                baselines={"by activation": by_activation["unexplained"]},
                note="the error's share of |attributions|",
                percent=True,
            ),
            Figure(
                "latents of half", e["latents_of_half"], baselines={"by activation": by_activation["latents_of_half"]}
            ),
        ],
    )


def decomposability(e: Results) -> Summary:
    """Of `decomposability`."""
    base = {name: part.get("explained_variance") for name, part in e["baselines"].items() if part}
    return Summary(
        title="Decomposability",
        sample=f"{e['latents']:,} latents' directions",
        says=f"{e['l0']:.1f} meta-latents a latent explain {percent(e['explained_variance'])} of the variance of the "
        "decoder's directions.",
        limits="Random directions are explained to a degree as well: the share beside those baselines is what counts.",
        figures=[
            Figure("explained by meta-latents", e["explained_variance"], better=LESS, baselines=base, percent=True),
        ],
    )
