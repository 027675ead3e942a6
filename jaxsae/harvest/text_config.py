"""Flags that say which text a language model reads, and how it is cut into sequences."""

import dataclasses
import re
from typing import Literal

from jaxsae.config import check, check_positive, option

_SLICE = re.compile(r"(-?\d*):(-?\d*)")


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """Documents, and the sequences made of them."""

    text: tuple[str, ...] = option(
        (),
        "hf, nnx: files (.txt, .jsonl, .jsonl.gz, .parquet; .npy of token ids [sequences, context]), a directory that "
        "`datasets` wrote, or the hub id of a data set; several follow each other",
    )
    text_field: str = option("text", "the field of a .jsonl file or a data set that holds the text")
    text_split: str = option("", "the split of a data set; default: train, or the only one there is")
    text_name: str = option("", "the configuration of a data set that has several")
    text_unit: Literal["file", "paragraph", "line"] = option(
        "file", "what a document is in a .txt file; paragraphs are set apart by empty lines"
    )
    documents: str = option("", "which documents, from 0, as FIRST:END, such as 0:600 or -100: (the last 100)")
    packing: bool = option(True, "fill each sequence with documents end to end; false: one document a sequence, cut")
    context: int | None = option(None, "tokens of a sequence; default: the model's limit, at most 1024")
    bos: Literal["auto", "always", "never"] = option(
        "auto",
        "what a sequence begins with: auto: what the tokenizer sets there, else its BOS, else its EOS token, where it "
        "has one (models without it put huge activations on the first word); always: BOS; never: nothing",
    )
    skip_positions: int = option(0, "positions at the start of each sequence of which no row is kept")
    tokenizer: str = option("", "hub id or directory; default: the model's own")

    def __post_init__(self):
        check_positive(self, "context")
        check(self.skip_positions >= 0, "skip_positions", self.skip_positions, "must be 0 or more")
        parse_documents(self.documents)


def parse_documents(text: str) -> tuple[int | None, int | None]:
    """FIRST:END as two numbers, None where one is left out.

    Raises:
      InputError: not of that form.
    """
    if not text:
        return None, None
    match = _SLICE.fullmatch(text)
    check(match is not None, "documents", text, "give FIRST:END, such as 0:600, 600: or -100:")
    first, end = (int(part) if part not in ("", "-") else None for part in match.groups())
    if first is not None and end is not None and (first < 0) == (end < 0):
        check(first < end, "documents", text, "holds nothing: FIRST must be below END")
    return first, end
