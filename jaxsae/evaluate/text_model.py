"""A language model, the held-out text that it reads, and which of its predictions are measured."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxsae.errors import InputError
from jaxsae.evaluate.config import EvaluateConfig
from jaxsae.evaluate.context import Context
from jaxsae.harvest.corpus import Corpus, open_corpus
from jaxsae.harvest.hf import reading_of
from jaxsae.harvest.sequences import Sequences
from jaxsae.harvest.text import Documents
from jaxsae.harvest.text_config import TextConfig
from jaxsae.harvest.tokenizer import Tokenizer
from jaxsae.lm import backend
from jaxsae.lm.checkpoint import Checkpoint, find
from jaxsae.lm.decoder.lm import DecoderLM
from jaxsae.lm.torch_lm import TorchLM
from jaxsae.paths import absolute
from jaxsae.progress import say
from jaxsae.store import Store

MASKED_SHARE = 0.15  # of the tokens of a text, as BERT was trained
_MASK_KEY = 0x3A5C


@dataclasses.dataclass(frozen=True)
class Batch:
    """Sequences [B, T] and what is asked of them.

    Attributes:
      tokens: int32, -1 where there is none; masked tokens are replaced.
      kept: bool, the positions whose activations are replaced.
      asked: bool, the positions whose predictions are measured.
      targets: int32, the token to predict at each position.
    """

    tokens: np.ndarray
    kept: np.ndarray
    asked: np.ndarray
    targets: np.ndarray


@dataclasses.dataclass(frozen=True)
class TextModel:
    """What `open_text` finds."""

    lm: TorchLM | DecoderLM
    sequences: Sequences
    tokenizer: Tokenizer
    reading: TextConfig
    held_out: bool
    seed: int

    def batches(self) -> Iterator[Batch]:
        """All sequences, batch by batch."""
        for number in range(self.sequences.batches):
            tokens, _, kept = self.sequences.batch(number)
            yield self._causal(tokens, kept) if self.lm.kind == "causal" else self._masked(tokens, kept, number)

    def _causal(self, tokens: np.ndarray, kept: np.ndarray) -> Batch:
        """Each position predicts the next, where that is a token of the text."""
        asked, targets = np.zeros_like(kept), np.zeros_like(tokens)
        asked[:, :-1], targets[:, :-1] = kept[:, 1:], tokens[:, 1:]
        return Batch(tokens, kept, asked, targets)

    def _masked(self, tokens: np.ndarray, kept: np.ndarray, number: int) -> Batch:
        """A share of each sequence's tokens, at least one, is masked and predicted in its place."""
        chance = np.random.default_rng([self.seed, number, _MASK_KEY]).random(tokens.shape)
        chance[~kept] = np.inf
        limit = np.maximum(1, np.round(MASKED_SHARE * kept.sum(1))).astype(int)
        asked = (chance.argsort(1).argsort(1) < limit[:, None]) & kept
        return Batch(np.where(asked, self.tokenizer.mask, tokens).astype(np.int32), kept, asked, tokens)


def reads_text(context: Context) -> bool:
    """Whether the dictionary belongs to a language model that reads text."""
    source = context.dictionary.metadata.get("source")
    return bool(context.config.text) or source in ("hf", "nnx") or _settings(context).get("source") in ("hf", "nnx")


def _settings(context: Context) -> dict[str, Any]:
    if context.dictionary.metadata.get("source") or not context.config.store:
        return {}
    return context.attributes.get("settings", {})


def open_text(context: Context, suite: str = "splice") -> TextModel:
    """The model and the text, opened once for all contexts that share it; what can be refused without the model's weights
    is, before they are read.

    Args:
      suite: that reads it, for messages.

    Raises:
      InputError: no such model or text; a model that has changed; nothing that was not harvested.
    """
    if "text" not in context.shared:
        context.shared["text"] = _opened(context, suite)
    return context.shared["text"]


def _opened(context: Context, suite: str) -> TextModel:
    config, attributes = context.config, context.attributes
    settings = attributes.get("settings", {})
    if settings.get("source") != "hf":
        raise InputError(
            f"--suite={suite}: {context.store.url} holds rows of source {settings.get('source')}; text is read by models "
            "of --source=hf. Give a --store harvested from one."
        )
    options = config.hf
    if options.model_dtype == "auto":
        options = dataclasses.replace(options, model_dtype=settings["model_dtype"])
    checkpoint = find(config.model or attributes["model"], options)
    chosen = backend.choose(checkpoint, tuple(dict.fromkeys((*context.reads, *context.writes))), "site")
    corpus, held_out = _corpus(context, attributes, checkpoint)
    if checkpoint.kind == "masked" and corpus.tokenizer.mask is None:
        raise InputError(f"--model={checkpoint.name}: predicts masked tokens, and its tokenizer has no mask token.")
    if not held_out:
        say(f"{suite}: some of these documents were harvested, so they are not held out.")
    if checkpoint.fingerprint != settings["weights"]:
        if not config.model:
            raise InputError(
                f"--model={checkpoint.name}: its weights have changed since the store was harvested. Harvest again, or name "
                "the model that was harvested."
            )
        say(f"{suite}: --model={checkpoint.name} is not the model that was harvested.")
    # Dictionaries are split over the same devices as the model where both are one program.
    lm = DecoderLM(checkpoint, context.dictionary.mesh) if chosen == backend.JAX else TorchLM(checkpoint)
    sequences = corpus.sequences(lm.vocabulary, config.sequences_per_batch, config.text_tokens, fewer=True)
    return TextModel(lm, sequences, corpus.tokenizer, corpus.reading, held_out, config.seed)


def _corpus(context: Context, attributes: dict[str, Any], checkpoint: Checkpoint) -> tuple[Corpus, bool]:
    """What to read and how, and whether none of it was harvested."""
    config, harvested = context.config, reading_of(attributes)
    if (config.text or harvested.text)[0].endswith(".npy"):
        raise InputError("--text: give text, such as a .txt or .jsonl file, not token ids.")
    if harvested.tokenizer == attributes["model"]:  # the model's own, which may lie elsewhere now
        harvested = dataclasses.replace(harvested, tokenizer="")
    reading = _given(config, harvested)
    first, end = (int(n) for n in attributes["settings"]["documents_read"].split(":"))
    whole = dataclasses.replace(reading, documents="")
    corpus = open_corpus(whole, checkpoint.name, checkpoint.options).within(checkpoint.context)
    if (was := attributes["settings"]["tokenizer_sha256"]) and corpus.tokenizer.fingerprint() != was:
        raise InputError(
            f"--model={checkpoint.name}: {corpus.tokenizer_name} holds another tokenizer than the one that the store was "
            "harvested with."
        )
    same = tuple(map(absolute, reading.text)) == harvested.text or _begins_alike(context.store, corpus, first, end)
    if same and not config.documents:
        reading = dataclasses.replace(reading, documents=f"{end}:")
        if next(iter(Documents(reading)), None) is None:
            raise InputError(
                f"--text: all documents of {', '.join(reading.text)} were harvested, so none is held out. "
                "Give other text with --text, or harvest with --documents=0:N."
            )
    taken = Documents(reading)
    corpus = dataclasses.replace(corpus, reading=reading, source=taken)
    return corpus, not same or taken.first >= end or (taken.end is not None and taken.end <= first)


def _given(config: EvaluateConfig, harvested: TextConfig) -> TextConfig:
    """The text to read by the flags of `evaluate`, and how by those of the harvest."""
    if not config.text:
        return dataclasses.replace(harvested, documents=config.documents)
    own = {"text_split": config.text_split, "text_name": "", "text_field": config.text_field or harvested.text_field}
    return dataclasses.replace(harvested, text=config.text, documents=config.documents, **own)


def _begins_alike(store: Store, corpus: Corpus, first: int, end: int) -> bool:
    """Whether a text is the one that was harvested, by the tokens of the store's first rows: files may be moved."""
    rows = min(store.rows, 4 * corpus.context)
    if not store.available or store.available[0][0] or store.available[0][1] < rows:
        return False
    part = dataclasses.replace(corpus.reading, documents=f"{first}:{end}")
    try:
        begin = dataclasses.replace(corpus, source=Documents(part)).sequences(
            corpus.tokenizer.size, rows, rows, fewer=True
        )
    except InputError:  # it has no such documents
        return False
    tokens, _, kept = begin.batch(0)
    mine = begin.columns(0, tokens, kept)["tokens"][:rows]
    return np.array_equal(mine, store.column("tokens", 0, len(mine)))
