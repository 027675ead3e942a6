"""Harvest of a Hugging Face model against its bare forward pass, in turn in one process."""

import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxsae.benchmark.clock import time_in_turn
from jaxsae.benchmark.config import BenchmarkConfig
from jaxsae.benchmark.harvest_jax import benchmark_jax, harvested
from jaxsae.config import to_dict
from jaxsae.files import write_json
from jaxsae.harvest.corpus import Corpus, check_context, open_corpus
from jaxsae.harvest.sequences import Sequences
from jaxsae.harvest.text_config import TextConfig
from jaxsae.harvest.text_source import when_asked
from jaxsae.lm import backend
from jaxsae.lm.checkpoint import find
from jaxsae.lm.decoder.families import shape_of
from jaxsae.lm.torch_lm import TorchLM
from jaxsae.progress import say

WHOLE, TO_SITE, HARVEST = "bare forward pass", "the same up to the last site", "harvest"


def benchmark_harvest(config: BenchmarkConfig) -> dict[str, Any]:
    """Times a model's forward pass whole, up to the last site, and with everything that a harvest does; prints it.

    The harvest runs from token ids to a finished store on disk: shards of the usual size, statistics, checksums.
    By --backend=jax see `harvest_jax.py`.
    With several sites, a harvest of the first alone stands beside it. Tokenising, where `--text` is given, is timed apart.

    Raises:
      InputError: no such model, site or text.
    """
    checkpoint = find(config.model, config.hf)
    chosen = backend.choose(checkpoint, config.sites)
    check_context(config.context, checkpoint.context)
    reading = TextConfig(text=config.text, context=config.context)
    corpus = open_corpus(reading, checkpoint.name, config.hf).within(checkpoint.context) if config.text else None
    if chosen == backend.JAX:
        shape = shape_of(checkpoint.config, checkpoint.name)
        sites = config.sites or (f"resid_post.{len(shape.layers) // 2}",)
        return benchmark_jax(config, checkpoint, sites, _sequences(config, shape.vocabulary, corpus)[0])
    lm = TorchLM(checkpoint)
    sites = config.sites or (f"resid_post.{lm.layers // 2}",)
    widths = lm.widths(sites)
    sequences, seconds = _sequences(config, lm.vocabulary, corpus)
    tokens = sum(sequences.batch(number)[0].size for number in range(sequences.batches))
    with tempfile.TemporaryDirectory(prefix="jaxsae-benchmark-") as directory:
        harvests = {HARVEST: sites} | ({f"{HARVEST}, {sites[0]} alone": sites[:1]} if len(sites) > 1 else {})
        calls: dict[str, Callable[[int], Any]] = {
            WHOLE: lambda _: _bare(lm, sequences),
            TO_SITE: lambda _: _bare(lm, sequences, sites),
        }
        for name, kept in harvests.items():
            calls[name] = lambda number, kept=kept: _harvest(
                lm, sequences, {site: widths[site] for site in kept}, f"{directory}/{len(kept)}-{number}"
            )
        timings = time_in_turn(calls, config.repeats or 3, warm_up=1)
    figures = {
        "flags": to_dict(config),
        "device": str(lm.device),
        "tokens": tokens,
        "rows": sequences.rows,
        "sites": list(sites),
        "tokens_per_second": {name: tokens / timing.seconds for name, timing in timings.items()},
        "cpu_seconds": {name: timing.cpu_seconds for name, timing in timings.items()},
        "megabytes_per_second": sequences.rows * sum(widths.values()) * 4 / 1e6 / timings[HARVEST].seconds,
        "harvest_over_bare": timings[WHOLE].seconds / timings[HARVEST].seconds,
        "harvest_over_bare_to_site": timings[TO_SITE].seconds / timings[HARVEST].seconds,
        "tokenised_tokens_per_second": tokens / seconds if seconds else None,
    }
    if len(sites) > 1:
        alone = timings[f"{HARVEST}, {sites[0]} alone"]
        figures["seconds_over_one_site"] = timings[HARVEST].seconds / alone.seconds
    _show(figures)
    if config.json:
        write_json(config.json, figures)
    return figures


def _sequences(config: BenchmarkConfig, vocabulary: int, corpus: Corpus | None) -> tuple[Sequences, float]:
    """The text of `--text`, or random token ids; and the seconds that tokenising took."""
    if corpus:
        began = time.perf_counter()
        made = corpus.sequences(vocabulary, config.rows_of_a_batch, config.tokens, fewer=True)
        return made, time.perf_counter() - began
    made = Sequences(config.context, config.rows_of_a_batch, np.zeros(vocabulary, bool), 0)
    rng = np.random.default_rng(config.seed)
    for number in range(-(-config.tokens // config.context)):
        made.add(rng.integers(0, vocabulary, config.context, np.int32), number)
    return made.close(), 0.0


def _bare(lm: TorchLM, sequences: Sequences, sites: tuple[str, ...] = ()) -> None:
    """The forward pass over all batches, whole, or ended after the last of `sites`; results are thrown away."""
    for number in range(sequences.batches):
        tokens, _, _ = sequences.batch(number)
        if sites:
            lm.read(tokens, np.zeros(tokens.shape, bool), sites, "float32")
        else:
            lm.logits(tokens, np.zeros(tokens.shape, bool))
    if lm.device.type == "cuda":
        lm.torch.cuda.synchronize()


def _harvest(lm: TorchLM, sequences: Sequences, widths: dict[str, int], directory: str) -> None:
    start = when_asked(lambda tokens, kept: lm.read(tokens, kept, tuple(widths), "float32"))
    harvested(start, sequences, widths, directory)


def _show(figures: dict[str, Any]) -> None:
    whole = figures["tokens_per_second"][WHOLE]
    say(f"{'':<32}{'tokens/s':>12}{'of bare':>10}{'CPU s':>9}")
    for name, speed in figures["tokens_per_second"].items():
        say(f"{name:<32}{speed:>12,.0f}{speed / whole:>10.2f}{figures['cpu_seconds'][name]:>9.2f}")
    if figures["tokenised_tokens_per_second"]:
        say(f"{'tokenising, before that':<32}{figures['tokenised_tokens_per_second']:>12,.0f}")
    if "seconds_over_one_site" in figures:
        say(f"{len(figures['sites'])} sites take {figures['seconds_over_one_site']:.3f} times the seconds of one")
    say(
        f"{figures['tokens']:,} tokens, {', '.join(figures['sites'])}: {figures['megabytes_per_second']:,.1f} MB/s to disk; "
        f"{figures['harvest_over_bare_to_site']:.2f} of the pass up to the last site"
    )
