"""What stands at the sites of dictionaries in a batch of text: reconstructions, their baselines, and error nodes.

Baselines are zeros, the mean and, where a map goes past the latents of all of them, what that map alone writes,
b_dec + W_skip x. An error node (Ameisen et al., Circuit Tracing, 2025) adds to a reconstruction the error that it makes where
nothing is replaced, as a constant: with one at each site that is replaced the model does what it does unreplaced.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from jaxsae.dictionary import SKIP, Dictionary
from jaxsae.evaluate.text_model import Batch, TextModel
from jaxsae.lm import compare_torch
from jaxsae.lm.stand_in import StandIn
from jaxsae.store.statistics import Moments

ERROR_NODES = "error_nodes"  # the name under which they are spliced
Replace = Mapping[str, StandIn]


@dataclasses.dataclass(frozen=True)
class Run:
    """A dictionary, or one site of it, in its place.

    Attributes:
      reads: the sites that it reads; empty: that where it writes. mean: float32 [d_out], of what stands there.
    """

    dictionary: Dictionary
    reads: tuple[str, ...]
    mean: np.ndarray


def named_stand_ins(
    named: Mapping[str, Sequence[str]], sites: Sequence[str], skips: bool
) -> list[tuple[str, str, Sequence[str]]]:
    """(name, stand-in, the sites where it stands) of all passes: each stand-in at the sites of each of `named`, and error
    nodes at all `sites`.

    Args:
      skips: whether a map past the latents is one.
    """
    kinds = ("spliced", "zero", "mean", "skip") if skips else ("spliced", "zero", "mean")
    passes = [(name, kind, those) for name, those in named.items() for kind in kinds]
    return [*passes, (ERROR_NODES, "spliced", sites)]


class TorchSplice:
    """Stand-ins of some runs, {site that is written: run}, in a `TorchLM`; counts how large errors are."""

    def __init__(self, text: TextModel, runs: Mapping[str, Run]):
        self._text, self._runs = text, runs
        self._rows = text.sequences.batch_size * text.sequences.context  # that are reconstructed at once
        self._seen = tuple(dict.fromkeys(name for site, run in runs.items() for name in (*run.reads, site)))
        self._skips = all(SKIP in run.dictionary.params.shared for run in runs.values())
        self._squares = dict.fromkeys(runs, 0.0)
        self._written: dict[str, list[Moments]] = {site: [] for site in runs}

    def sums(self, batch: Batch, named: Mapping[str, Sequence[str]]) -> dict[Any, np.ndarray]:
        """Sums [B] over each sequence's predictions, {"count", ("ce", "original"), ("ce" | "kl" | "same", name, stand-in)}.

        Args:
          named: {name: the sites where stand-ins stand}; error nodes stand at all.
        """
        lm, made, nodes = self._text.lm, *self._made(batch)
        original, found = lm.logits(batch.tokens, batch.kept), {"count": batch.asked.sum(1)}
        for name, stand_in, sites in named_stand_ins(named, list(self._runs), self._skips):
            replace = nodes if name == ERROR_NODES else self._at(made, stand_in, sites)
            logits = lm.logits(batch.tokens, batch.kept, replace)
            columns = compare_torch.sums(original, logits, batch.asked, batch.targets)
            found["ce", "original"] = columns.pop("ce_original")
            found |= {(what, name, stand_in): column for what, column in columns.items()}
        return found

    def _made(self, batch: Batch) -> tuple[Replace, Replace]:
        """Reconstructions and error nodes at all sites."""
        seen = self._text.lm.read(batch.tokens, batch.kept, self._seen, "float32")
        made, nodes = self._reconstructions(seen), {}
        for site, stand_in in made.items():
            error = seen[site] - stand_in.at(site, seen)
            self._squares[site] += float(np.square(error, dtype=np.float64).sum())
            self._written[site].append(Moments.of(seen[site]))
            nodes[site] = StandIn(partial(_with_error, stand_in.function, error), stand_in.reads)
        return made, nodes

    def shares(self) -> dict[str, float | None]:
        """{site: sum of squared errors over that of what is written about its mean}, of the batches seen."""
        spread = {site: Moments.merged(parts).squares.sum() for site, parts in self._written.items()}
        return {site: self._squares[site] / spread[site] if spread[site] > 0 else None for site in spread}

    def _reconstructions(self, seen: Mapping[str, np.ndarray]) -> dict[str, StandIn]:
        """{site: what a dictionary writes there}; of a crosscoder, of what it reads where nothing is replaced."""
        first = next(iter(self._runs.values())).dictionary
        if not first.config.site_widths:
            of = lambda run: StandIn(partial(_reconstructed, run.dictionary, self._rows), run.reads)
            return {site: of(run) for site, run in self._runs.items()}
        y = _reconstructed(first, self._rows, np.concatenate([seen[site] for site in self._runs], 1))
        parts = np.split(y, np.cumsum(first.config.site_widths)[:-1], 1)
        return {site: StandIn(lambda x, y=y: y) for site, y in zip(self._runs, parts, strict=True)}

    def _at(self, made: Replace, stand_in: str, sites: Sequence[str]) -> Replace:
        runs = {site: self._runs[site] for site in sites}
        return {
            "spliced": lambda: {site: made[site] for site in sites},
            "zero": lambda: dict.fromkeys(sites, StandIn(np.zeros_like)),
            "mean": lambda: {site: StandIn(partial(_mean, run.mean)) for site, run in runs.items()},
            "skip": lambda: {site: StandIn(partial(_past, run.dictionary), run.reads) for site, run in runs.items()},
        }[stand_in]()


def _reconstructed(dictionary: Dictionary, rows: int, x: np.ndarray) -> np.ndarray:
    whole = np.pad(x, ((0, rows - len(x)), (0, 0)), mode="edge")  # one shape, compiled once
    return np.asarray(dictionary.reconstruct(whole))[: len(x)]


def _with_error(reconstructed: Any, error: np.ndarray, x: np.ndarray) -> np.ndarray:
    return reconstructed(x) + error


def _mean(mean: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.broadcast_to(mean, x.shape)


def _past(dictionary: Dictionary, x: np.ndarray) -> np.ndarray:
    return np.asarray(dictionary.method.base(dictionary.params.shared, x))
