"""Activations of a Hugging Face language model on text."""

from typing import Any

from jaxsae.config import from_dict
from jaxsae.harvest.config import HarvestConfig
from jaxsae.harvest.corpus import open_corpus
from jaxsae.harvest.sequences import Sequences
from jaxsae.harvest.text_config import TextConfig
from jaxsae.harvest.text_source import TextSource
from jaxsae.lm import load_torch, sites
from jaxsae.lm.torch_lm import TorchLM
from jaxsae.store import Plan


def open_hf(config: HarvestConfig) -> TextSource:
    """The source of `--source=hf`. Text, context and tokenizer are looked at before weights are read.

    Raises:
      InputError: no such model, site, tokenizer or text; a context that the model does not take.
    """
    checkpoint = load_torch.find(config.model, config.torch)
    corpus = open_corpus(config.corpus, checkpoint.name, config.torch).within(checkpoint.context)
    lm = TorchLM(checkpoint)
    if not config.sites:
        sites.find(lm.model, "")  # names them in its message
    widths = lm.widths(config.sites)
    sequences = corpus.sequences(lm.vocabulary, config.forward_batch, config.tokens)
    settings = {"source": "hf", "weights": checkpoint.fingerprint, "kind": lm.kind, "model_dtype": lm.dtype}
    settings |= corpus.described(sequences, config.tokens)
    plan = text_plan(config, widths, lm.name, lm.vocabulary, sequences, settings)
    return TextSource(plan, sequences, lambda tokens, kept: lm.read(tokens, kept, config.sites, config.dtype))


def text_plan(
    config: HarvestConfig,
    widths: dict[str, int],
    model: str,
    vocabulary: int,
    sequences: Sequences,
    settings: dict[str, Any],
) -> Plan:
    """The plan of a store of text; its context and tokenizer stand where people look for them."""
    settings = dict(settings)
    return Plan(
        rows=config.tokens or sequences.rows,
        sites=widths,
        dtype=config.dtype,
        model=model,
        tokenizer=settings.pop("tokenizer"),
        vocabulary=vocabulary,
        context=sequences.context,
        settings=settings,
        shard_rows=config.shard_rows,
        chunk_rows=config.chunk_rows,
    )


def reading_of(attributes: dict[str, Any]) -> TextConfig:
    """How the text of a store was read, out of its attributes."""
    whole = attributes["settings"] | {name: attributes[name] for name in ("context", "tokenizer")}
    return from_dict(TextConfig, whole)
