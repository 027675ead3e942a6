"""What a Hugging Face model loses on held-out text when dictionaries stand in for its activations.

Reconstructions, zeros or means replace the activations at all positions that a harvest keeps, that is not at
special tokens; of several dictionaries, and of the layers of a cross-layer transcoder, each sees what those before
it made of the stream, and a crosscoder, whose sites do not come one before the other, what the model has where nothing is
replaced. Cross-entropy is of the
next token of the text, or of masked ones. Loss recovered is 1 - (CE_spliced - CE) / (CE_zero - CE), faithfulness the same
of other baselines. Intervals are over sequences, each weighted by its predictions.
"""

from typing import Any

import numpy as np

from jaxsae.errors import InputError
from jaxsae.evaluate.context import Context, load_dictionary
from jaxsae.evaluate.run import FILE, number
from jaxsae.evaluate.splice_figures import with_interval
from jaxsae.evaluate.splice_measure import about, measure
from jaxsae.evaluate.splice_stand_ins import Run
from jaxsae.evaluate.text_model import open_text, reads_text
from jaxsae.store import open_store

__all__ = ["evaluate", "reads_text", "run_of", "table"]


def evaluate(context: Context) -> dict[str, Any]:
    """Runs the model as it is, and with each stand-in at the site, or at the sites of `--splice_with` too; of what
    writes several sites at all of them, and at each.

    Returns:
      `tokens` (predictions), `sequences`, `ce`, `ce_spliced`, `ce_zero`, `ce_mean` (and `ce_skip`, where a map goes past the
      latents), `delta_ce` with `delta_ce_interval` (95%), `kl` of original || spliced with its interval, `kl_zero`,
      `kl_mean`, `loss_recovered`, `faithfulness` {baseline: share}, `next_token_agreement`, `error_nodes` (`share` {site: of
      the variance}, `kl` with them), and where there are several sites `each`: the same of each alone. Nats a token. What
      several dictionaries cost goes to a file of its own, `splice_with_SITES.json`.
    """
    text, runs = open_text(context), _runs(context)
    several = {site: [site] for site in runs} if len(runs) > 1 else {}
    measured = measure(text, runs, {"all": list(runs)} | several, "splice")
    found = about(text, measured) | {"sites": list(runs)} | measured.figures("all")
    found |= {"error_nodes": measured.error_nodes}
    if not several:
        return found
    found |= {"each": {site: measured.figures(site) for site in runs}}
    if len(context.writes) > 1:
        return found
    # Beside splice.json, which holds what this dictionary costs alone.
    others = "+".join(list(runs)[1:])
    return {FILE: f"splice_with_{others}", "splice_with": list(context.config.splice_with)} | found


def run_of(context: Context) -> Run:
    """That of a dictionary of one site, or of a transcoder."""
    return Run(context.dictionary, context.reads if context.transcodes else (), context.mean)


def _runs(context: Context) -> dict[str, Run]:
    """{site that is written: run}, of the run and of those of `--splice_with`."""
    if len(context.writes) > 1:
        if context.config.splice_with:
            listed = ",".join(context.config.splice_with)
            raise InputError(
                f"--splice_with={listed}: is for a dictionary of one site; {context.config.run} has several."
            )
        return _of_each_site(context)
    runs = {context.writes[0]: run_of(context)}
    model = context.attributes.get("model")
    for run in context.config.splice_with:
        dictionary = load_dictionary(run, context.config.mesh, flag="splice_with")
        metadata, kind = dictionary.metadata, dictionary.config
        if kind.site_widths or kind.layers > 1:
            raise InputError(f"--splice_with={run}: is a {dictionary.kind}, which is spliced alone. Leave it out.")
        site, url = (metadata.get("writes") or [metadata.get("site")])[0], metadata.get("store")
        if not site or not url:
            raise InputError(f"--splice_with={run}: does not say its site and store. Give a run that jaxsae trained.")
        if site in runs:
            raise InputError(f"--splice_with={run}: is of site {site}, which has a dictionary already.")
        store = open_store(url)
        if store.metadata(site).get("model") != model:
            raise InputError(f"--splice_with={run}: is of model {store.metadata(site).get('model')}, not of {model}.")
        reads = tuple(metadata["reads"]) if kind.transcode else ()
        runs[site] = Run(dictionary, reads, np.asarray(store.statistics(site).mean, np.float32))
    return runs


def _of_each_site(context: Context) -> dict[str, Run]:
    """{site: run} of what writes several sites."""
    whole, layers = context.dictionary, context.layers
    means = np.split(context.mean, np.cumsum(whole.widths.written_sites)[:-1])
    if layers == 1:
        return {site: Run(whole, (), mean) for site, mean in zip(context.writes, means, strict=True)}
    parts = [(whole.of_layer(layer), context.reads[: layer + 1]) for layer in range(layers)]
    return {site: Run(*part, mean) for site, part, mean in zip(context.writes, parts, means, strict=True)}


def table(results: dict[str, Any]) -> list[str]:
    """The figures in a few lines."""
    same, nodes = results["next_token_agreement"], results["error_nodes"]
    held = "" if results["held_out"] else ", NOT held out"
    skip = f"   skip {results['ce_skip']:.4f}" if "ce_skip" in results else ""
    faithful = "   ".join(f"{base} {number(share)}" for base, share in results["faithfulness"].items())
    shares = "   ".join(f"{site} {number(share)}" for site, share in nodes["share"].items())
    lines = [
        f"ce {results['ce']:.4f}   spliced {results['ce_spliced']:.4f}   zero {results['ce_zero']:.4f}   "
        f"mean {results['ce_mean']:.4f}{skip}   ({results['tokens']:,} predictions, documents {results['documents']}{held})",
        f"delta_ce {with_interval(results, 'delta_ce')}   loss recovered {number(results['loss_recovered'])}   "
        f"faithfulness by {faithful}",
        f"kl {results['kl']:.4f}   zero {results['kl_zero']:.4f}   mean {results['kl_mean']:.4f}   same next token "
        f"{same['spliced']:.4f}   zero {same['zero']:.4f}   mean {same['mean']:.4f}",
        f"error nodes: of the variance {shares}   kl with them {nodes['kl']:.1e}",
    ]
    for site, found in results.get("each", {}).items():
        lines.append(f"{site} alone: delta_ce {found['delta_ce']:.4f}   kl {found['kl']:.4f}")
    return lines
