"""A language model, the held-out text that it reads, and which of its predictions are measured."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxsae.errors import InputError
from jaxsae.evaluate.context import Context
from jaxsae.harvest.hf import check_vocabulary, place, reading_of
from jaxsae.harvest.sequences import Sequences, make_sequences
from jaxsae.harvest.text import Documents
from jaxsae.harvest.text_config import TextConfig
from jaxsae.harvest.tokenizer import Tokenizer, load_tokenizer
from jaxsae.lm.torch_lm import TorchLM
from jaxsae.progress import say

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

    lm: TorchLM
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
    return context.store.metadata(context.site).get("settings", {})


def open_text(context: Context) -> TextModel:
    """The model and the text.

    Raises:
      InputError: no such model or text; a model that has changed; nothing that was not harvested.
    """
    config, attributes = context.config, context.store.metadata(context.site)
    settings = attributes.get("settings", {})
    if settings.get("source") != "hf":
        raise InputError(
            f"--suite=splice: {context.store.url} holds rows of source {settings.get('source')}; text is read by models "
            "of --source=hf. Give a --store harvested from one."
        )
    options = config.torch
    if options.model_dtype == "auto":
        options = dataclasses.replace(options, model_dtype=settings["model_dtype"])
    lm = TorchLM(config.model or attributes["model"], options)
    if not config.model and lm.dtype == settings["model_dtype"] and lm.fingerprint() != settings["weights"]:
        raise InputError(f"--model={lm.name}: its weights have changed since the store was harvested. Harvest again.")
    if (config.text or reading_of(attributes).text)[0].endswith(".npy"):
        raise InputError("--text: give text, such as a .txt or .jsonl file, not token ids.")
    reading, held_out = _reading(context, attributes)
    tokenizer = load_tokenizer(reading.tokenizer or lm.name, reading, options.trust_remote_code)
    check_vocabulary(tokenizer, lm.vocabulary, reading.tokenizer or lm.name)
    if lm.kind == "masked" and tokenizer.mask is None:
        raise InputError(f"--model={lm.name}: predicts masked tokens, and its tokenizer has no mask token.")
    if not held_out:
        say("splice: some of these documents were harvested, so they are not held out.")
    sequences = make_sequences(
        Documents(reading), tokenizer, reading.context, config.sequences_per_batch, config.text_tokens,
        reading.packing, reading.skip_positions, fewer=True,
    )  # fmt: skip
    return TextModel(lm, sequences, tokenizer, reading, held_out, config.seed)


def _reading(context: Context, attributes: dict[str, Any]) -> tuple[TextConfig, bool]:
    """What to read and how, and whether none of it was harvested."""
    config, harvested = context.config, reading_of(attributes)
    first, end = (int(n) for n in attributes["settings"]["documents_read"].split(":"))
    documents = config.documents if config.text or config.documents else f"{end}:"
    reading = dataclasses.replace(harvested, text=config.text or harvested.text, documents=documents)
    if not config.text and not config.documents:
        if next(iter(Documents(reading)), None) is None:
            raise InputError(
                f"--text: all documents of {', '.join(harvested.text)} were harvested, so none is held out. "
                "Give other text with --text, or harvest with --documents=0:N."
            )
        return reading, True
    absolute = Documents(reading)
    same = tuple(place(t) for t in reading.text) == tuple(harvested.text)
    return reading, not same or absolute.first >= end or (absolute.end is not None and absolute.end <= first)
