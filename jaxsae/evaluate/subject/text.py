"""A language model and held-out text, or texts that a suite brings along."""

from collections.abc import Iterator, Sequence

import jax
import numpy as np

from jaxsae.errors import InputError
from jaxsae.evaluate.subject.base import Batch, Rows, Subject
from jaxsae.evaluate.text_model import TextModel
from jaxsae.lm.decoder.lm import DecoderLM
from jaxsae.lm.decoder.reader import Reader
from jaxsae.lm.decoder.replaced import logits_at
from jaxsae.lm.stand_in import StandIn


class TextSubject(Subject):
    """What `text_model.open_text` finds, as a `Subject`.

    Attributes:
      text: it.
    """

    unit = "sequence"

    def __init__(self, text: TextModel):
        self.text, self._lm = text, text.lm
        self.name, self.vocabulary = self._lm.name, self._lm.vocabulary
        self.last_site = f"resid_post.{self._lm.layers - 1}"
        self.about = {
            "sequences": len(text.sequences),
            "text": list(text.reading.text),
            "documents": f"{text.sequences.documents[0]}:{text.sequences.documents[1]}",
            "held_out": text.held_out,
        }

    @property
    def sequences(self) -> int:
        return len(self.text.sequences)

    def batches(self) -> Iterator[Batch]:
        return self.text.batches()

    @property
    def context(self) -> int:
        """Tokens of a sequence, at most, as the store was harvested."""
        return self.text.sequences.context

    def encoded(self, texts: Sequence[str]) -> list[np.ndarray]:
        """int32 ids of each text alone, without special tokens, cut to what a sequence has room for."""
        tokenizer = self.text.tokenizer
        room = self.context - len(tokenizer.prefix) - len(tokenizer.suffix)
        return [ids[:room] for ids in tokenizer.encode(texts)]

    def batches_of(self, ids: Sequence[np.ndarray], size: int | None = None) -> Iterator[tuple[slice, Batch]]:
        """(which, their batch) of one sequence for each text of `ids`, with the special tokens that the model's text has.

        Kept are the text's own tokens; each is predicted that anything stands before.
        """
        tokenizer, size = self.text.tokenizer, size or self.text.sequences.batch_size
        for start in range(0, len(ids), size):
            some = ids[start : start + size]
            before, after = len(tokenizer.prefix), len(tokenizer.suffix)
            longest = max(len(text) for text in some) + before + after
            tokens, kept = np.full((len(some), longest), -1, np.int32), np.zeros((len(some), longest), bool)
            for row, text in enumerate(some):
                whole = np.concatenate([tokenizer.prefix, text, tokenizer.suffix]).astype(np.int32)
                tokens[row, : len(whole)] = whole
                kept[row, before : before + len(text)] = True
            asked, targets = np.zeros_like(kept), np.zeros_like(tokens)
            asked[:, :-1], targets[:, :-1] = kept[:, 1:], np.maximum(tokens[:, 1:], 0)
            yield slice(start, start + len(some)), Batch(tokens, kept, asked, targets)

    def read(self, batch: Batch, sites: tuple[str, ...]) -> dict[str, np.ndarray]:
        if isinstance(self._lm, DecoderLM):
            self._lm.widths(sites, "site")
            reader = Reader(self._lm, sites, "float32", len(batch.tokens), whole=jax.process_count() > 1)
            return reader.start(batch.tokens, batch.kept)()
        return self._lm.read(batch.tokens, batch.kept, sites, "float32")

    def logits(self, batch: Batch, at: np.ndarray, replace: Rows | None = None) -> np.ndarray:
        if isinstance(self._lm, DecoderLM):
            return logits_at(self._lm, batch.tokens, batch.kept, at, replace or {})
        stand_ins = {site: StandIn(lambda _, rows=rows: rows) for site, rows in (replace or {}).items()}
        found = self._lm.logits(batch.tokens, batch.kept, stand_ins)
        index = self._lm.torch.as_tensor(np.flatnonzero(at), device=found.device)
        return found.reshape(-1, found.shape[-1]).index_select(0, index).float().cpu().numpy()

    def word(self, token: int) -> str:
        return self.text.tokenizer.text([token])


def check_causal(subject: Subject, suite: str) -> None:
    """Raises `InputError` where a text's model guesses masked tokens, which `suite` does not take."""
    if isinstance(subject, TextSubject) and subject.text.lm.kind != "causal":
        raise InputError(
            f"--model={subject.name}: predicts masked tokens, and --suite={suite} is of next ones. Leave it out of --suite."
        )
