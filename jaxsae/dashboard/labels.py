"""Labels of latents, from JSON Lines that a person or an auto-labeller wrote, or from Delphi's folder of explanations.

A line is an object such as `{"latent": 12, "text": "dates"}`, and `"site"` where there are several. Two other ways of saying
the same are read: a line of `export --format=contexts` to which a labeller added `text` or `explanation`; and the
explanations of Neuronpedia, whose package (`neuronpedia` 1.2.1, `Explanation.from_np_db_json`) calls them `index` and
`description`. Delphi (`eai-delphi` 0.1.3) writes a file for each latent, `MODULE_latent12.txt`, which holds a JSON string.
"""

import json
import re
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxsae.errors import InputError

LATENT, TEXT, SITE = ("latent", "index"), ("text", "explanation", "description"), "site"
_ORIGIN = ("modelId", "source", "layer")  # of which dictionary Neuronpedia's lines are; not named as our sites are
_CONTEXTS = "examples"  # in a line of contexts: where it has no text, nobody has labelled it yet
_DELPHI = re.compile(r"(.*)_latent(\d+)\.txt")


def read(path: str | Path, widths: Mapping[str, int], others: Container[str] = ()) -> dict[str, dict[int, str]]:
    """Reads labels, with white space made single spaces.

    Args:
      path: a file of lines, or a folder of Delphi's. widths: {site: number of latents} of the dictionaries they are of.
      others: sites whose lines are passed over.

    Returns:
      {site: {latent: text}}, with every site of `widths`.

    Raises:
      InputError: no such file; a line that is not JSON, lacks a key, has an empty text or names a latent or a site that is
        not there; a latent with two texts; lines about several dictionaries that do not say which; no label at all.
    """
    path = Path(path)
    name, found = f"--labels={path}", {site: {} for site in widths}
    first: dict[tuple[str, int], str] = {}
    origins: dict[str, tuple[Any, str]] = {}
    for where, line in _delphi(path) if path.is_dir() else _lines(path):
        at = f"{name}: {where}"
        if not any(key in line for key in TEXT) and _CONTEXTS in line:
            continue
        if isinstance(line.get(SITE), str) and line[SITE] in others:
            continue
        site, latent, text = _site(line, widths, at), _latent(line, at), _text(line, at)
        if site is None:  # lines that do not name theirs are all of one
            site = next(iter(widths))
            _check_origin(line, origins, where, at)
        if latent not in range(widths[site]):
            raise InputError(
                f"{at}: latent {latent} is not there: {site} has {widths[site]:,}, 0 to {widths[site] - 1}. "
                "Take the labels of this dictionary, or leave the line out."
            )
        if found[site].setdefault(latent, text) != text:
            raise InputError(
                f"{at}: labels latent {latent} of {site} {text!r}, and {first[site, latent]} {found[site][latent]!r}. "
                "Keep one of them."
            )
        first.setdefault((site, latent), where)
    if not first:
        keys = " or ".join(f'"{key}"' for key in TEXT)
        raise InputError(f'{name}: holds no label. Give a line such as {{"latent": 12, "text": "dates"}} (or {keys}).')
    return found


def _lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    name, number = f"--labels={path}", 0
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, text in enumerate(file, 1):
                if text.strip():
                    yield f"line {number}", _object(text, f"{name}: line {number}")
    except UnicodeDecodeError:
        raise InputError(f"{name}: is not text in UTF-8 after line {number}. Name a file of JSON lines.") from None
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror}). Name a file of JSON lines.") from None


def _object(text: str, at: str) -> Mapping[str, Any]:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError) as error:
        shown = text.strip()[:60]
        raise InputError(
            f"{at}: {shown!r} is not JSON ({error}). Write one whole object on each line (JSONL)."
        ) from None
    if not isinstance(line, dict):
        raise InputError(
            f'{at}: holds a {type(line).__name__}, not an object such as {{"latent": 12, "text": "dates"}}.'
        )
    return line


def _delphi(folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Delphi's files as lines; its module stands for Neuronpedia's `layer`, or for the site where it is called so."""
    for path in sorted(folder.iterdir()):
        if match := _DELPHI.fullmatch(path.name):
            try:
                text = json.loads(path.read_text(encoding="utf-8"))
            except (ValueError, OSError) as error:
                raise InputError(f"--labels={folder}: {path.name} is not a JSON string ({error}).") from None
            yield path.name, {"latent": int(match.group(2)), "layer": match.group(1), "explanation": text}


def _site(line: Mapping[str, Any], widths: Mapping[str, int], at: str) -> str | None:
    """None where it does not say, and there is but one."""
    there = ", ".join(widths)
    if SITE in line:
        site = line[SITE]
        if not isinstance(site, str) or site not in widths:
            raise InputError(f"{at}: site {site!r} is not there; the dictionaries are of {there}.")
        return site
    module = line.get("layer")
    if isinstance(module, str) and module in widths:
        return module
    if len(widths) > 1:
        raise InputError(
            f'{at}: names no "site", and there are {there}. Say which: {{"site": "{next(iter(widths))}", ...}}.'
        )
    return None


def _latent(line: Mapping[str, Any], at: str) -> int:
    value = _one(line, LATENT, at)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:  # as Neuronpedia keeps it
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"{at}: latent {value!r} is not a whole number.")
    return value


def _text(line: Mapping[str, Any], at: str) -> str:
    value = _one(line, TEXT, at)
    text = " ".join(value.split()) if isinstance(value, str) else ""
    if not text:
        raise InputError(f"{at}: its text is {value!r}: expected some words. Leave a latent without a label out.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{at}: its text {text!r} holds half a character (\\ud800 to \\udfff), which no file can."
        ) from None
    return text


def _one(line: Mapping[str, Any], keys: tuple[str, ...], at: str) -> Any:
    """The value under whichever of `keys` is there."""
    values = {key: line[key] for key in keys if key in line}
    if not values:
        said = ", ".join(map(repr, line)) or "none"
        raise InputError(f"{at}: has no {keys[0]!r} (or {', '.join(map(repr, keys[1:]))}); its keys: {said}.")
    first, *rest = values.values()
    if any(other != first for other in rest):
        raise InputError(f"{at}: {' and '.join(f'{k!r} is {v!r}' for k, v in values.items())}. Keep one of them.")
    return first


def _check_origin(line: Mapping[str, Any], origins: dict[str, tuple[Any, str]], where: str, at: str) -> None:
    for key in _ORIGIN:
        value, earlier = origins.setdefault(key, (line.get(key), where))
        if line.get(key) != value:
            raise InputError(
                f"{at}: {key} is {line.get(key)!r}, and {earlier} has {value!r}: these are labels of different dictionaries. "
                "Give a file with those of one."
            )
