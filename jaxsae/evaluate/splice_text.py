"""What a Hugging Face model loses on held-out text when dictionaries stand in for its activations.

Reconstructions, zeros or means replace the activations at all positions that a harvest keeps, that is not at
special tokens; of several sites, each sees what those before it made of the stream. Cross-entropy is of the
next token of the text, or of masked ones. Loss recovered is 1 - (CE_spliced - CE) / (CE_zero - CE). Intervals are
over sequences, each weighted by its predictions.
"""

import dataclasses
from collections.abc import Callable, Mapping
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


@dataclasses.dataclass(frozen=True)
class Run:
    """A dictionary in its place: what it reads ("": what stands where it writes), and the mean of what stands there."""

    dictionary: Dictionary
    reads: str
    mean: np.ndarray


def evaluate(context: Context) -> dict[str, Any]:
    """Runs the model as it is, and with each stand-in at the site, or at the sites of `--splice_with` too.

    Returns:
      `tokens` (predictions), `sequences`, `ce`, `ce_spliced`, `ce_zero`, `ce_mean`, `delta_ce` with `delta_ce_interval`
      (95%), `kl` of original || spliced with its interval, `kl_zero`, `kl_mean`, `loss_recovered`,
      `next_token_agreement`, and where there are several sites `each`: the same of each alone. Nats a token. What several
      sites cost goes to a file of its own, `splice_with_SITES.json`.
    """
    text, runs = open_text(context), _runs(context)
    widths = text.lm.widths(tuple(runs), "site")
    for site, run in runs.items():
        wanted = run.dictionary.widths.d_out
        if widths[site] != wanted:
            raise InputError(
                f"--site={site}: has width {widths[site]} in {text.lm.name}, and the dictionary gives {wanted}."
            )
    rows = context.config.sequences_per_batch * text.sequences.context
    variants = {"all": _stand_ins(runs, rows)}
    if len(runs) > 1:
        variants |= {site: _stand_ins({site: run}, rows) for site, run in runs.items()}
    sums: dict[Any, list[np.ndarray]] = {}
    with Progress(len(text.sequences), "splice", "sequence") as bar:
        for batch in text.batches():
            _measure(text, batch, variants, sums)
            bar.advance(len(batch.tokens))
    columns = {key: np.concatenate(parts) for key, parts in sums.items()}
    figures = {name: compare(columns, name) for name in variants}
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
    # Beside splice.json, which holds what this dictionary costs alone.
    others = "+".join(list(runs)[1:])
    each = {site: figures[site] for site in runs}
    return (
        about
        | {FILE: f"splice_with_{others}", "splice_with": list(context.config.splice_with)}
        | figures["all"]
        | {"each": each}
    )


def _runs(context: Context) -> dict[str, Run]:
    """{site that is written: run}, of the run and of those of `--splice_with`."""
    reads = context.reads[0] if context.transcodes else ""
    runs = {context.writes[0]: Run(context.dictionary, reads, context.mean)}
    model = context.attributes.get("model")
    for run in context.config.splice_with:
        dictionary = load_dictionary(run, context.config.mesh, flag="splice_with")
        about = dictionary.metadata
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


def _stand_ins(runs: Mapping[str, Run], rows: int) -> dict[str, Replace]:
    """{stand-in: {site: what stands there}}."""

    def spliced(dictionary: Dictionary) -> Callable[[np.ndarray], np.ndarray]:
        def replace(x: np.ndarray) -> np.ndarray:
            whole = np.pad(x, ((0, rows - len(x)), (0, 0)), mode="edge")  # one shape, compiled once
            return np.asarray(dictionary.reconstruct(whole))[: len(x)]

        return replace

    return {
        "spliced": {site: StandIn(spliced(run.dictionary), run.reads) for site, run in runs.items()},
        "zero": dict.fromkeys(runs, StandIn(np.zeros_like)),
        "mean": {site: StandIn(lambda x, run=run: np.broadcast_to(run.mean, x.shape)) for site, run in runs.items()},
    }


def _measure(
    text: TextModel, batch: Batch, variants: Mapping[str, Mapping[str, Replace]], sums: dict[Any, list[np.ndarray]]
) -> None:
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
