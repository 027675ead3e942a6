"""A text and its tokenizer, found and looked into before anything is run on it."""

import dataclasses
from typing import Any

from jaxsae.config import to_dict
from jaxsae.errors import InputError
from jaxsae.harvest.ids import TokenIds
from jaxsae.harvest.sequences import Sequences, make_sequences
from jaxsae.harvest.text import Documents
from jaxsae.harvest.text_config import TextConfig
from jaxsae.harvest.tokenizer import Tokenizer, load_tokenizer
from jaxsae.paths import absolute
from jaxsae.progress import say

DEFAULT_CONTEXT = 1024


@dataclasses.dataclass(frozen=True)
class Corpus:
    """What `open_corpus` finds.

    Attributes:
      reading: the flags.
      source: the documents, or token ids.
      tokenizer, tokenizer_name: None and "" where the text is token ids.
      context: tokens of a sequence, at most; 0 until `within` has seen what the model takes.
    """

    reading: TextConfig
    source: Documents | TokenIds
    tokenizer: Tokenizer | None
    tokenizer_name: str
    context: int = 0

    def within(self, limit: int | None) -> "Corpus":
        """The same, cut for a model that takes `limit` positions, None where there is no limit.

        Raises:
          InputError: a context that the model does not take, without room for text or rows, or that token ids exceed.
        """
        reading = self.reading
        check_context(reading.context, limit)
        if isinstance(self.source, TokenIds):
            self.source.check_length(reading.context or limit)
            context = self.source.context
        else:
            context = reading.context or min(limit or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
        if reading.skip_positions >= context:
            raise InputError(
                f"--skip_positions={reading.skip_positions}: leaves no row of sequences of {context} tokens (--context)."
            )
        if self.tokenizer and context <= len(self.tokenizer.prefix) + len(self.tokenizer.suffix):
            raise InputError(f"--context={context}: has no room for text beside the tokenizer's special tokens.")
        return dataclasses.replace(self, context=context)

    def sequences(self, vocabulary: int, batch_size: int, rows: int | None, fewer: bool = False) -> Sequences:
        """The text as sequences: `rows` rows of it, or all.

        Args:
          vocabulary: tokens that the model has.
          fewer: whether a text that gives fewer than `rows` will do.

        Raises:
          InputError: token ids that the model lacks, no text, fewer rows than asked.
        """
        if self.tokenizer is None:
            return self.source.sequences(vocabulary, batch_size, rows, self.reading.skip_positions)
        tokenizer = self.tokenizer.bounded(vocabulary, self.tokenizer_name)
        cut = self.reading.packing, self.reading.skip_positions
        made = make_sequences(self.source, tokenizer, self.context, batch_size, rows, *cut, fewer)
        if made.beyond_context and not fewer:
            say(f"--context={self.context}: {made.beyond_context:,} tokens of longer documents are cut off.")
        return made

    def described(self, sequences: Sequences, rows: int | None) -> dict[str, Any]:
        """What a store's settings say of the text; its context and tokenizer are for the attributes above them."""
        first, end = sequences.documents
        special = self.tokenizer.special if self.tokenizer else {}
        return {name: value for name, value in to_dict(self.reading).items() if name != "context"} | {
            "text": [absolute(entry) for entry in self.reading.text],
            "tokenizer": absolute(self.tokenizer_name),
            "tokenizer_sha256": self.tokenizer.fingerprint() if self.tokenizer else "",
            "prepend_bos": bool(self.tokenizer and self.tokenizer.prefix),
            "batch_size": sequences.batch_size,
            "documents_read": f"{first}:{end}",
            "sequences": len(sequences),
            "text_sha256": sequences.fingerprint(),
            "positions": sequences.counts(rows or sequences.rows, special),
        }


def open_corpus(reading: TextConfig, model: str = "", options: Any = None) -> Corpus:
    """Finds the text and its tokenizer; of the text only the beginning is read.

    Args:
      model: whose tokenizer is taken where `--tokenizer` names none.
      options: the `HFConfig` of that model.

    Raises:
      InputError: text or tokenizer cannot be read.
    """
    if reading.text and all(entry.endswith(".npy") for entry in reading.text):
        if len(reading.text) > 1:
            raise InputError(f"--text={','.join(reading.text)}: give one .npy file of token ids.")
        return Corpus(reading, TokenIds(reading.text[0]), None, "")
    documents = Documents(reading)
    documents.look()
    if not reading.tokenizer and not model:
        raise InputError("--tokenizer=: --source=nnx needs one to read text; or give a .npy file of token ids.")
    tokenizer = load_tokenizer(reading.tokenizer, model, reading, options)
    return Corpus(reading, documents, tokenizer, reading.tokenizer or model)


def check_context(context: int | None, limit: int | None) -> None:
    """Raises `InputError` where a model does not take sequences of `context` tokens."""
    if context and limit and context > limit:
        raise InputError(f"--context={context}: the model takes {limit} positions at most.")
