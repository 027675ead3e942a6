"""What must agree between two harvests of one store, told in the flags that decide it."""

import json
from typing import Any

# A path may change where a sum over what it holds does not: files are moved.
_CONTENT = {"model": "weights", "tokenizer": "tokenizer_sha256", "text": "text_sha256"}
_FLAGS = {"rows": "tokens", "files": "input"}
# What other flags decide; named only where they do not differ.
_DERIVED = ("site", "width", "vocabulary", "kind", "prepend_bos", "documents_read", "sequences", "positions")
_HOW_TEXT_IS_CUT = ("text", "documents", "context", "packing", "bos", "skip_positions", "tokenizer", "batch_size")


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """One phrase for each setting that differs between the metadata of two arrays; the sites alone where those do."""
    there, asked = _flat(found), _flat(wanted)
    if there["sites"] != asked["sites"]:
        return [_phrase("sites", there, asked)]
    differing = [name for name in {**there, **asked} if there.get(name) != asked.get(name)]
    if "weights" in differing and all(values["tokenizer"] == values["model"] for values in (there, asked)):
        differing = [name for name in differing if name not in ("tokenizer", "tokenizer_sha256")]  # came with the model
    if {"bos", "packing"} & set(differing) and there["tokenizer"] == asked["tokenizer"]:
        differing = [name for name in differing if name != "tokenizer_sha256"]  # what stands around a text is in it
    sums = {place: content for place, content in _CONTENT.items() if asked.get(content)}
    changed = [place for place, content in sums.items() if content in differing]
    moved = [place for place in sums if place not in changed and not _has_code(asked)]
    flags = [name for name in differing if name not in (*_DERIVED, *_CONTENT.values(), *moved)]
    if set(flags) & set(_HOW_TEXT_IS_CUT):
        flags = [name for name in flags if name != "rows"]
    phrases = [_phrase(name, there, asked) for name in flags]
    if flags == ["rows"] and "text" in changed:
        phrases[0] += ", or given by a text that has changed since"
    same_path = [place for place in changed if place not in flags and (place != "text" or not flags)]
    phrases += [f"what --{place}={_shown(asked[place])} names has changed since" for place in same_path]
    return phrases or [_phrase(name, there, asked, flag=False) for name in differing if name not in moved]


def _flat(metadata: dict[str, Any]) -> dict[str, Any]:
    """Settings under the names that people know."""
    attributes = metadata["attributes"]
    names = ("model", "tokenizer", "vocabulary", "context", "sites", "rows")
    values = {name: attributes.get(name) for name in names} | attributes.get("settings", {})
    sharding = metadata["codecs"][0].get("configuration", {})
    backend = {"backend": values.get("backend", "torch")} if values.get("source") == "hf" else {}
    return (
        values
        | backend
        | {
            "site": attributes.get("site"),
            "width": metadata["shape"][1:],
            "dtype": metadata["data_type"],
            "shard_rows": metadata["chunk_grid"]["configuration"]["chunk_shape"][0],
            "chunk_rows": sharding.get("chunk_shape", [None])[0],
        }
    )


def _has_code(values: dict[str, Any]) -> bool:
    """Whether the model's name is that of a function, which its weights do not stand for."""
    return values.get("source") == "nnx"


def _phrase(name: str, there: dict[str, Any], asked: dict[str, Any], flag: bool = True) -> str:
    head = f"--{_FLAGS.get(name, name)}=" if flag else f"{name} "
    return f"{head}{_shown(there.get(name))} in the store, {_shown(asked.get(name)) or 'none'} asked"


def _shown(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return ",".join(value)
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)
