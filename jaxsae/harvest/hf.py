"""Activations of a Hugging Face language model on text."""

import os
from typing import Any

from jaxsae.config import from_dict, to_dict
from jaxsae.errors import InputError
from jaxsae.harvest.config import HarvestConfig
from jaxsae.harvest.sequences import Sequences, make_sequences, sequences_of_ids
from jaxsae.harvest.text import Documents
from jaxsae.harvest.text_config import TextConfig
from jaxsae.harvest.text_source import TextSource
from jaxsae.harvest.tokenizer import Tokenizer, load_tokenizer
from jaxsae.lm.load_torch import absolute
from jaxsae.lm.torch_lm import TorchLM
from jaxsae.progress import say
from jaxsae.store import Plan

DEFAULT_CONTEXT = 1024


def open_hf(config: HarvestConfig) -> TextSource:
    """The source of `--source=hf`.

    Raises:
      InputError: no such model, site, tokenizer or text; a context that the model does not take.
    """
    lm = TorchLM(config.model, config.torch)
    if not config.sites:
        from jaxsae.lm import sites  # names them in its message

        sites.find(lm.model, "")
    widths = lm.widths(config.sites)
    sequences, told = read_text(
        config.corpus, config.forward_batch, config.tokens, lm.name, lm.vocabulary, lm.context, config.torch
    )
    settings = {"source": "hf", "weights": lm.fingerprint(), "kind": lm.kind, "model_dtype": lm.dtype}
    plan = text_plan(config, widths, lm.name, lm.vocabulary, sequences, settings | told)
    return TextSource(plan, sequences, lambda tokens, kept: lm.read(tokens, kept, config.sites, config.dtype))


def read_text(
    config: TextConfig,
    batch_size: int,
    rows: int | None,
    model: str,
    vocabulary: int,
    limit: int | None,
    torch_config: Any = None,
) -> tuple[Sequences, dict[str, Any]]:
    """The sequences of a text, and what the store's settings say of them.

    Args:
      rows: as many as that; default: all.
      model: whose tokenizer is taken where `--tokenizer` names none.
      vocabulary, limit: of the model: its tokens, and its positions where they are limited.

    Raises:
      InputError: text or tokenizer cannot be read; a context that the model does not take.
    """
    if config.context and limit and config.context > limit:
        raise InputError(f"--context={config.context}: the model takes {limit} positions at most.")
    context = config.context or min(limit or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    if config.text and all(entry.endswith(".npy") for entry in config.text):
        if len(config.text) > 1:
            raise InputError(f"--text={','.join(config.text)}: give one .npy file of token ids.")
        sequences = sequences_of_ids(config.text[0], vocabulary, context, batch_size, rows, config.skip_positions)
        return sequences, _told(config, sequences, rows, {}) | {"tokenizer": "", "prepend_bos": False}
    tokenizer = load_tokenizer(config.tokenizer or model, config, bool(torch_config and torch_config.trust_remote_code))
    check_vocabulary(tokenizer, vocabulary, config.tokenizer or model)
    documents = Documents(config)
    sequences = make_sequences(documents, tokenizer, context, batch_size, rows, config.packing, config.skip_positions)
    if sequences.beyond_context:
        say(f"--context={context}: {sequences.beyond_context:,} tokens of longer documents are cut off.")
    told = _told(config, sequences, rows, tokenizer.special)
    told |= {"tokenizer": absolute(config.tokenizer or model), "tokenizer_sha256": tokenizer.fingerprint()}
    return sequences, told | {"prepend_bos": bool(tokenizer.prefix)}


def _told(config: TextConfig, sequences: Sequences, rows: int | None, special: dict[int, str]) -> dict[str, Any]:
    # Context and tokenizer stand among the store's attributes already.
    own = {name: value for name, value in to_dict(config).items() if name not in ("context", "tokenizer")}
    first, end = sequences.documents
    return own | {
        "text": [place(entry) for entry in config.text],
        "batch_size": sequences.batch_size,
        "documents_read": f"{first}:{end}",
        "sequences": len(sequences),
        "text_sha256": sequences.fingerprint(),
        "positions": sequences.counts(rows or sequences.rows, special),
    }


def place(entry: str) -> str:
    """A file or directory from the root, a hub id as it is."""
    return os.path.abspath(entry) if os.path.exists(entry) else entry


def check_vocabulary(tokenizer: Tokenizer, vocabulary: int, name: str) -> None:
    """Raises `InputError` where a tokenizer has ids that the model has no embedding for."""
    if tokenizer.size > vocabulary:
        raise InputError(
            f"--tokenizer={name}: has {tokenizer.size:,} tokens and the model {vocabulary:,}: it is another model's."
        )


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
