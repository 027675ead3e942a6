"""Tokens as the tokenizer has them, and as people read them: each by itself, with the space before it."""

import json
import re
from collections.abc import Iterable
from typing import Any

from jaxsae.lm import libraries
from jaxsae.lm.othello import MOVES, TOKEN_TO_SQUARE, square_name

SIGNS = {"\n": "\u21b5", "\r": "\u240d", "\t": "\u21e5"}
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def words_of(tokenizer: str, ids: Iterable[int]) -> tuple[dict[int, str], str]:
    """{token: how people read it}, and why there is none, "" where there are.

    Args:
      tokenizer: "othello", whose tokens are squares, or a Hugging Face tokenizer that is on this computer already.
    """
    if tokenizer == "othello":
        return {int(i): square_name(int(TOKEN_TO_SQUARE[i])).lower() for i in ids if 0 <= i < MOVES}, ""
    if not tokenizer:
        return {}, "the store names no tokenizer"
    try:
        transformers = libraries.import_transformers()
        found = transformers.AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)
    except Exception as error:  # whatever transformers lacks, numbers can still be shown
        return {}, f"{tokenizer}: its tokenizer could not be read ({(str(error).splitlines() or [''])[0][:200]})"
    return pieces(found, ids), ""


def pieces(tokenizer: Any, ids: Iterable[int]) -> dict[int, str]:
    """What a transformers tokenizer's tokens stand for; a space is a space, a line's end and a tab are signs, bytes that are
    no character of their own are written \\xe2, and special tokens as they are."""
    ids = [int(i) for i in ids]
    added, kind = tokenizer.added_tokens_decoder, _kind(tokenizer)
    out = {}
    for i, token in zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True):
        if isinstance(token, bytes):  # tokenizers of their own code
            token = token.decode("utf-8", "backslashreplace")
        if token is None:
            out[i] = f"<{i}>"
        else:
            out[i] = token if i in added and added[i].special else visible(_plain(token, kind))
    return out


def visible(text: str) -> str:
    """The same with a sign for each line's end, tab, and what else does not show."""
    shown = (SIGNS.get(c, c if c.isprintable() or c == " " else c.encode("unicode_escape").decode()) for c in text)
    return "".join(shown)


def _kind(tokenizer: Any) -> set[str]:
    """Types of what a fast tokenizer decodes with; of one that is not fast what its attributes say."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return {"ByteLevel"} if hasattr(tokenizer, "byte_decoder") else set()
    told = json.loads(backend.to_str())
    return set(_types(told.get("decoder"))) | set(_types(told.get("pre_tokenizer"))) & {"ByteLevel"}


def _types(part: Any) -> Iterable[str]:
    if isinstance(part, dict):
        if "type" in part:
            yield part["type"]
        for value in part.values():
            yield from _types(value)
    elif isinstance(part, list):
        for value in part:
            yield from _types(value)


def _plain(token: str, kind: set[str]) -> str:
    if "ByteLevel" in kind and all(c in _BYTES for c in token):
        return bytes(_BYTES[c] for c in token).decode("utf-8", "backslashreplace")
    if found := _BYTE.fullmatch(token):  # SentencePiece's of what its vocabulary lacks
        return bytes([int(found[1], 16)]).decode("utf-8", "backslashreplace")
    if "WordPiece" in kind:
        return token[2:] if token.startswith("##") else f" {token}"
    return token.replace("\u2581", " ").replace("</w>", " ")


def _byte_characters() -> dict[str, int]:
    """{character: byte} of byte-level vocabularies (GPT-2): printable bytes are themselves, the others come after U+0100."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {chr(b): b for b in plain} | {chr(0x100 + i): b for i, b in enumerate(rest)}


_BYTES = _byte_characters()
