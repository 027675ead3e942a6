"""A Hugging Face tokenizer, and which of its special tokens go where."""

import copy
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxsae.errors import InputError
from jaxsae.harvest.text_config import TextConfig
from jaxsae.lm import libraries
from jaxsae.paths import absolute


class Tokenizer:
    """Text to token ids.

    Attributes:
      prefix, suffix: ids that stand before and after the text of every sequence.
      separator: ids that stand between two documents of one sequence.
      special: {id: token} of the special tokens, whose rows are dropped; the unknown token counts as text.
      padding, mask: ids, None where there is none.
      size: tokens there are; a model may lack those that were added and that no text uses.
    """

    _known: tuple[int, str] | None = None

    def __init__(self, tokenizer: Any, bos: str, packing: bool):
        """Finds out what the tokenizer itself sets around a text.

        Raises:
          InputError: no special token where one is needed.
        """
        self._tokenizer, self.size = tokenizer, len(tokenizer)
        self.prefix, self.suffix = _around(tokenizer)
        first = next((i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None), None)
        if bos == "never":
            self.prefix = []
        elif bos == "always":
            if tokenizer.bos_token_id is None:
                raise InputError("--bos=always: the tokenizer has no BOS token; take --bos=auto or --bos=never.")
            self.prefix = [tokenizer.bos_token_id, *(i for i in self.prefix if i != tokenizer.bos_token_id)]
        elif not self.prefix and first is not None:
            self.prefix = [first]
        eos = [i for i in (tokenizer.eos_token_id, tokenizer.sep_token_id, first) if i is not None]
        self.separator = self.suffix or self.prefix or eos[:1]
        if packing and not self.separator:
            raise InputError(
                "--packing: the tokenizer has no special token (BOS, EOS or SEP) to set documents apart in a sequence. "
                "Take --packing=false (one document a sequence), or name another with --tokenizer."
            )
        self.special = _special(tokenizer, {*self.prefix, *self.suffix, *self.separator})
        self.padding, self.mask = tokenizer.pad_token_id, tokenizer.mask_token_id

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """int32 ids of each text alone, without prefix and suffix."""
        ids = self._tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        ids = [np.asarray(i, np.int32) for i in ids]
        self._check_known(*ids)
        return ids

    def places(self, texts: Sequence[str]) -> list[np.ndarray]:
        """int [T, 2], the first character of each token of `encode` and the one after its last.

        Raises:
          InputError: the tokenizer does not say.
        """
        if not self._tokenizer.is_fast:
            raise InputError(
                "--model: its tokenizer does not say which characters a token is of. Convert it to a fast one "
                "(tokenizer.json), or give labels of whole texts."
            )
        how = {"add_special_tokens": False, "return_offsets_mapping": True, "verbose": False}
        found = self._tokenizer(list(texts), **how)["offset_mapping"]
        return [np.asarray(own, int).reshape(-1, 2) for own in found]

    def words(self) -> dict[int, str]:
        """{id: text} of tokens that are one word of ASCII letters, with the space before it where the vocabulary has such."""
        tokens = self._tokenizer.convert_ids_to_tokens(range(self.size))
        spaced = {i: token[1:] for i, token in enumerate(tokens) if token and token[0] in "\u2581\u0120"}
        is_word = lambda word: word.isascii() and word.isalpha()
        words = {i: f" {word}" for i, word in spaced.items() if is_word(word)}
        return words or {
            i: token for i, token in enumerate(tokens) if token and is_word(token) and i not in self.special
        }

    def text(self, ids: Sequence[int]) -> str:
        """What token ids stand for."""
        return self._tokenizer.decode([int(i) for i in ids])

    def bounded(self, vocabulary: int, name: str) -> "Tokenizer":
        """The same, for a model of `vocabulary` tokens: others are refused, by the tokenizer's `name`, where they come up.

        Raises:
          InputError: they stand in prefix, suffix or separator; also from `encode`.
        """
        out = copy.copy(self)
        out._known = vocabulary, name
        out._check_known(*(np.asarray(ids, np.int32) for ids in (self.prefix, self.suffix, self.separator)))
        return out

    def _check_known(self, *ids: np.ndarray) -> None:
        if self._known is None or self.size <= self._known[0]:
            return
        largest = max((int(i.max()) for i in ids if len(i)), default=-1)
        if largest >= self._known[0]:
            token = self._tokenizer.convert_ids_to_tokens(largest)
            raise InputError(
                f"--tokenizer={self._known[1]}: gives token {largest} ({token!r}) and the model has {self._known[0]:,}: "
                "it is another model's."
            )

    def fingerprint(self) -> str:
        """Tells vocabularies apart."""
        vocabulary = sorted(self._tokenizer.get_vocab().items(), key=lambda item: item[1])
        text = json.dumps([vocabulary, self.prefix, self.suffix, self.separator])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer sets before and after a text."""
    for text in ("a", "the", "1"):
        bare = tokenizer(text, add_special_tokens=False)["input_ids"]
        whole = tokenizer(text)["input_ids"]
        for at in range(len(whole) - len(bare) + 1):
            if bare and whole[at : at + len(bare)] == bare:
                return list(whole[:at]), list(whole[at + len(bare) :])
    return [], []


def _special(tokenizer: Any, around: set[int]) -> dict[int, str]:
    """{id: token} of special tokens; an unknown token that has no other role stands for text.

    A template may set tokens around a text that are marked as special and that no configuration names.
    """
    roles = ("bos", "eos", "sep", "cls", "pad", "mask")
    used = {getattr(tokenizer, f"{role}_token_id") for role in roles} | around
    added = tokenizer.added_tokens_decoder
    marked = {i for i in around if i in added and added[i].special}
    ids = [i for i in sorted(marked.union(tokenizer.all_special_ids)) if i != tokenizer.unk_token_id or i in used]
    return {i: str(tokenizer.convert_ids_to_tokens(i)) for i in ids}


def load_tokenizer(name: str, model: str, config: TextConfig, options: Any = None) -> Tokenizer:
    """A tokenizer.

    Args:
      name: a hub id or a directory; empty: that of `model`, in its revision.
      options: the `HFConfig` of the model, where it has one.

    Raises:
      InputError: it cannot be found, or needs code of its own.
    """
    transformers = libraries.import_transformers()
    own, name = not name, absolute(name or model)
    local = Path(name).is_dir()
    if not local and libraries.looks_like_a_path(name):
        raise InputError(f"--tokenizer={name}: no such directory. Name one with tokenizer.json, or a hub id.")
    tried = "" if local else libraries.reach_hub()
    how = {"trust_remote_code": bool(options and options.trust_remote_code)}
    how |= {"revision": options.revision} if own and options and options.revision else {}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, **how)
    except Exception as error:  # the library raises a dozen kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(" :")
        what = (
            f"--model={name}: brings no tokenizer that could be loaded" if own else f"--tokenizer={name}: no tokenizer"
        )
        raise InputError(
            f"{what} ({reason}). "
            + (f"Tried: no directory of that name here; {tried}. " if tried else "")
            + "Name a directory with tokenizer.json by --tokenizer (`tokenizer.save_pretrained(DIR)` writes it)."
        ) from None
    return Tokenizer(tokenizer, config.bos, config.packing)
