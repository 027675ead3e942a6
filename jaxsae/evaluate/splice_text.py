"""What a Hugging Face model loses on held-out text when dictionaries stand in for its activations.

Reconstructions, zeros or means replace the activations at all positions that a harvest keeps, that is not at
special tokens; of several dictionaries, each sees what those before it made of the stream, and a crosscoder, whose
sites do not come one before the other, what the model has where nothing is replaced. Cross-entropy is of the
next token of the text, or of masked ones. Loss recovered is 1 - (CE_spliced - CE) / (CE_zero - CE). Intervals are
over sequences, each weighted by its predictions.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np

from jaxsae.dictionary import Dictionary
from jaxsae.errors import InputError
from jaxsae.evaluate.context import Context, load_dictionary
from jaxsae.evaluate.run import FILE, number
from jaxsae.evaluate.splice_figures import STAND_INS, interval, loss_recovered, with_interval
from jaxsae.evaluate.text_model import Batch, TextModel, open_text, reads_text
from jaxsae.lm.stand_in import StandIn
from jaxsae.progress import Progress
from jaxsae.store import open_store

__all__ = ["evaluate", "reads_text", "table"]
_POSITIONS_AT_ONCE = 256  # of which logits stand in float64
Replace = Mapping[str, StandIn]
Variants = Mapping[str, Mapping[str, Replace]]  # {"all" or a site: {stand-in: {site: what stands there}}}


@dataclasses.dataclass(frozen=True)
class Run:
    """A dictionary, or one site of it, in its place.

    Attributes:
      reads: the site that it reads; "": that where it writes. mean: float32 [d_out], of what stands there.
    """

    dictionary: Dictionary
    reads: str
    mean: np.ndarray


def evaluate(context: Context) -> dict[str, Any]:
    """Runs the model as it is, and with each stand-in at the site, or at the sites of `--splice_with` too; of a crosscoder
    at all of its sites, and at each.

    Returns:
      `tokens` (predictions), `sequences`, `ce`, `ce_spliced`, `ce_zero`, `ce_mean`, `delta_ce` with `delta_ce_interval`
      (95%), `kl` of original || spliced with its interval, `kl_zero`, `kl_mean`, `loss_recovered`,
      `next_token_agreement`, and where there are several sites `each`: the same of each alone. Nats a token. What several
      dictionaries cost goes to a file of its own, `splice_with_SITES.json`.
    """
    text, runs = open_text(context), _runs(context)
    found = text.lm.widths(tuple(runs), "site")
    for site, wanted in runs.items():
        if found[site] != len(wanted.mean):
            raise InputError(
                f"--site={site}: has width {found[site]} in {text.lm.name}, and the dictionary gives {len(wanted.mean)}."
            )
    rows = context.config.sequences_per_batch * text.sequences.context
    variants_of = _variants_of(context, text, runs, rows)
    sums: dict[Any, list[np.ndarray]] = {}
    with Progress(len(text.sequences), "splice", "sequence") as bar:
        for batch in text.batches():
            _measure(text, batch, variants_of(batch), sums)
            bar.advance(len(batch.tokens))
    columns = {key: np.concatenate(parts) for key, parts in sums.items()}
    figures = {name: compare(columns, name) for name in ("all", *(runs if len(runs) > 1 else ()))}
    about = {
        "tokens": int(columns["count"].sum()),
        "sequences": len(text.sequences),
        "objective": {"causal": "next token", "masked": "masked tokens"}[text.lm.kind],
        "text": list(text.reading.text),
        "documents": f"{text.sequences.documents[0]}:{text.sequences.documents[1]}",
        "held_out": text.held_out,
        "sites": list(runs),
    }
    if len(runs) == 1:
        return about | figures["all"]
    each = {site: figures[site] for site in runs}
    if context.crosscodes:
        return about | figures["all"] | {"each": each}
    # Beside splice.json, which holds what this dictionary costs alone.
    others = "+".join(list(runs)[1:])
    return (
        about
        | {FILE: f"splice_with_{others}", "splice_with": list(context.config.splice_with)}
        | figures["all"]
        | {"each": each}
    )


def _runs(context: Context) -> dict[str, Run]:
    """{site that is written: run}, of the run and of those of `--splice_with`."""
    if context.crosscodes:
        if context.config.splice_with:
            listed = ",".join(context.config.splice_with)
            raise InputError(
                f"--splice_with={listed}: is for a dictionary of one site; {context.config.run} has several."
            )
        ends = np.cumsum(context.dictionary.config.site_widths)[:-1]
        means = zip(context.writes, np.split(context.mean, ends), strict=True)
        return {site: Run(context.dictionary, "", mean) for site, mean in means}
    reads = context.reads[0] if context.transcodes else ""
    runs = {context.writes[0]: Run(context.dictionary, reads, context.mean)}
    model = context.attributes.get("model")
    for run in context.config.splice_with:
        dictionary = load_dictionary(run, context.config.mesh, flag="splice_with")
        about, kind = dictionary.metadata, dictionary.config
        if kind.site_widths:
            raise InputError(f"--splice_with={run}: is a crosscoder, which is spliced alone. Leave it out.")
        reads, writes = (about.get(name, [""])[0] for name in ("reads", "writes"))
        site, url = writes or about.get("site"), about.get("store")
        if not site or not url:
            raise InputError(f"--splice_with={run}: does not say its site and store. Give a run that jaxsae trained.")
        if site in runs:
            raise InputError(f"--splice_with={run}: is of site {site}, which has a dictionary already.")
        store = open_store(url)
        if store.metadata(site).get("model") != model:
            raise InputError(f"--splice_with={run}: is of model {store.metadata(site).get('model')}, not of {model}.")
        runs[site] = Run(dictionary, reads, np.asarray(store.statistics(site).mean, np.float32))
    return runs


def _variants_of(context: Context, text: TextModel, runs: Mapping[str, Run], rows: int) -> Callable[[Batch], Variants]:
    """What is spliced for a batch of text: all sites, and where there are several each alone.

    Args:
      rows: that are reconstructed at once.
    """

    def of(made: Mapping[str, StandIn]) -> Variants:
        def those(sites: Iterable[str]) -> dict[str, Replace]:
            mean = lambda x, site: np.broadcast_to(runs[site].mean, x.shape)
            return {
                "spliced": {site: made[site] for site in sites},
                "zero": dict.fromkeys(sites, StandIn(np.zeros_like)),
                "mean": {site: StandIn(partial(mean, site=site)) for site in sites},
            }

        return {"all": those(runs)} | ({site: those([site]) for site in runs} if len(runs) > 1 else {})

    if not context.crosscodes:
        always = of(
            {site: StandIn(partial(_reconstructed, run.dictionary, rows), run.reads) for site, run in runs.items()}
        )
        return lambda batch: always

    def of_batch(batch: Batch) -> Variants:
        found = text.lm.read(batch.tokens, batch.kept, context.reads, "float32")
        y = _reconstructed(context.dictionary, rows, np.concatenate([found[site] for site in context.reads], 1))
        parts = np.split(y, np.cumsum(context.dictionary.config.site_widths)[:-1], 1)
        return of({site: StandIn(lambda x, y=y: y) for site, y in zip(context.writes, parts, strict=True)})

    return of_batch


def _reconstructed(dictionary: Dictionary, rows: int, x: np.ndarray) -> np.ndarray:
    whole = np.pad(x, ((0, rows - len(x)), (0, 0)), mode="edge")  # one shape, compiled once
    return np.asarray(dictionary.reconstruct(whole))[: len(x)]


def _measure(text: TextModel, batch: Batch, variants: Variants, sums: dict[Any, list[np.ndarray]]) -> None:
    """Adds sums [B] over each sequence's predictions: count, cross-entropy, KL and agreement."""
    original = text.lm.logits(batch.tokens, batch.kept)
    found = {"count": batch.asked.sum(1), ("ce", "original"): _against(original, original, batch)[0]}
    for name, stand_ins in variants.items():
        for stand_in, replace in stand_ins.items():
            logits = text.lm.logits(batch.tokens, batch.kept, replace)
            ce, kl, same = _against(original, logits, batch)
            found |= {("ce", name, stand_in): ce, ("kl", name, stand_in): kl, ("same", name, stand_in): same}
    for key, values in found.items():
        sums.setdefault(key, []).append(values)


def _against(original: Any, logits: Any, batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums [B] of cross-entropy, of KL(original || logits), and of equal likeliest tokens, in float64."""
    out = np.zeros((3, len(batch.tokens)))
    for i, asked in enumerate(batch.asked):
        where = np.flatnonzero(asked)
        for start in range(0, len(where), _POSITIONS_AT_ONCE):
            part = where[start : start + _POSITIONS_AT_ONCE]
            p, q = (x[i, part].double().log_softmax(-1) for x in (original, logits))
            target = q[range(len(part)), batch.targets[i, part]]
            out[0, i] -= float(target.sum())
            out[1, i] += float((p.exp() * (p - q)).sum())
            out[2, i] += float((p.argmax(-1) == q.argmax(-1)).sum())
    return tuple(out)


def compare(columns: Mapping[Any, np.ndarray], name: str) -> dict[str, Any]:
    """Figures of the original beside those of each stand-in of a variant, out of sums over sequences."""
    count = columns["count"]
    mean = lambda *key: columns[key].sum() / count.sum()
    extra = columns["ce", name, "spliced"] - columns["ce", "original"]
    ce = mean("ce", "original")
    zero, spliced = mean("ce", name, "zero"), mean("ce", name, "spliced")
    return {
        "ce": ce,
        **{f"ce_{stand_in}": mean("ce", name, stand_in) for stand_in in STAND_INS},
        "delta_ce": extra.sum() / count.sum(),
        "delta_ce_interval": interval(extra, count),
        "kl": mean("kl", name, "spliced"),
        "kl_interval": interval(columns["kl", name, "spliced"], count),
        "kl_zero": mean("kl", name, "zero"),
        "kl_mean": mean("kl", name, "mean"),
        "loss_recovered": loss_recovered(ce, spliced, zero),
        "next_token_agreement": {stand_in: mean("same", name, stand_in) for stand_in in STAND_INS},
    }


def table(results: dict[str, Any]) -> list[str]:
    """The figures in a few lines."""
    same = results["next_token_agreement"]
    held = "" if results["held_out"] else ", NOT held out"
    lines = [
        f"ce {results['ce']:.4f}   spliced {results['ce_spliced']:.4f}   zero {results['ce_zero']:.4f}   "
        f"mean {results['ce_mean']:.4f}   ({results['tokens']:,} predictions, documents {results['documents']}{held})",
        f"delta_ce {with_interval(results, 'delta_ce')}   loss recovered {number(results['loss_recovered'])}",
        f"kl {results['kl']:.4f}   zero {results['kl_zero']:.4f}   mean {results['kl_mean']:.4f}   same next token "
        f"{same['spliced']:.4f}   zero {same['zero']:.4f}   mean {same['mean']:.4f}",
    ]
    for site, found in results.get("each", {}).items():
        lines.append(f"{site} alone: delta_ce {found['delta_ce']:.4f}   kl {found['kl']:.4f}")
    return lines
