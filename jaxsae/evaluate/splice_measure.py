"""Passes over a text with stand-ins in the model, and what is compared of them: cross-entropy, KL, likeliest tokens."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxsae.errors import InputError
from jaxsae.evaluate.splice_figures import interval, recovered
from jaxsae.evaluate.splice_mesh import MeshSplice
from jaxsae.evaluate.splice_stand_ins import ERROR_NODES, Run, TorchSplice
from jaxsae.evaluate.text_model import TextModel
from jaxsae.lm.decoder.lm import DecoderLM
from jaxsae.progress import Progress

_BASES = ("zero", "mean", "skip")


@dataclasses.dataclass(frozen=True)
class Measured:
    """Sums over each sequence's predictions, {("ce" | "kl" | "same", name, stand-in): [S]}, and the errors' shares."""

    columns: Mapping[Any, np.ndarray]
    shares: Mapping[str, float | None]

    @property
    def tokens(self) -> int:
        """Predictions."""
        return int(self.columns["count"].sum())

    @property
    def error_nodes(self) -> dict[str, Any]:
        """`share` {site: of the variance of what is written}, and `kl` with error nodes at all sites, which is 0."""
        return {"share": dict(self.shares), "kl": self._mean("kl", ERROR_NODES, "spliced")}

    def figures(self, name: str) -> dict[str, Any]:
        """Of the model as it is beside those of each stand-in at some sites, by their name."""
        columns, count, mean = self.columns, self.columns["count"], self._mean
        there = [base for base in _BASES if ("ce", name, base) in columns]
        ce, ces = mean("ce", "original"), {base: mean("ce", name, base) for base in ("spliced", *there)}
        extra = columns["ce", name, "spliced"] - columns["ce", "original"]
        share = {base: recovered(ce, ces["spliced"], ces[base]) for base in there}
        return {
            "ce": ce,
            **{f"ce_{stand_in}": value for stand_in, value in ces.items()},
            "delta_ce": extra.sum() / count.sum(),
            "delta_ce_interval": interval(extra, count),
            "kl": mean("kl", name, "spliced"),
            "kl_interval": interval(columns["kl", name, "spliced"], count),
            **{f"kl_{base}": mean("kl", name, base) for base in there},
            "loss_recovered": share.pop("zero"),
            "faithfulness": share,
            "next_token_agreement": {stand_in: mean("same", name, stand_in) for stand_in in ces},
        }

    def _mean(self, *key: str) -> float:
        return self.columns[key].sum() / self.columns["count"].sum()


def measure(text: TextModel, runs: Mapping[str, Run], named: Mapping[str, Sequence[str]], what: str) -> Measured:
    """Runs the model over the text as it is, with each stand-in at the sites of each of `named`, {name: sites of `runs`},
    and with error nodes at all of them.

    Raises:
      InputError: a site that the model has not, or that is of another width than the dictionary writes.
    """
    check_widths(text, runs)
    splice, sums = (MeshSplice if isinstance(text.lm, DecoderLM) else TorchSplice)(text, runs), {}
    with Progress(len(text.sequences), what, "sequence") as bar:
        for batch in text.batches():
            for key, values in splice.sums(batch, named).items():
                sums.setdefault(key, []).append(values)
            bar.advance(len(batch.tokens))
    return Measured({key: np.concatenate(parts) for key, parts in sums.items()}, splice.shares())


def check_widths(text: TextModel, runs: Mapping[str, Run]) -> None:
    """Raises `InputError` naming a site that the model has not, or has in another width than is written there."""
    found = text.lm.widths(tuple(runs), "site")
    for site, run in runs.items():
        if found[site] != len(run.mean):
            raise InputError(
                f"--site={site}: has width {found[site]} in {text.lm.name}, and the dictionary gives {len(run.mean)}."
            )


def about(text: TextModel, measured: Measured) -> dict[str, Any]:
    """What the figures are figures of."""
    return {
        "tokens": measured.tokens,
        "sequences": len(text.sequences),
        "objective": {"causal": "next token", "masked": "masked tokens"}[text.lm.kind],
        "text": list(text.reading.text),
        "documents": f"{text.sequences.documents[0]}:{text.sequences.documents[1]}",
        "held_out": text.held_out,
    }
