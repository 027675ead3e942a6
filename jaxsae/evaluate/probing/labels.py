"""Labelled contexts out of JSONL: texts or games, with a label each, or with labels of their tokens or moves."""

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from jaxsae.errors import InputError
from jaxsae.evaluate.probing.board import moves_of

FEWEST = 10  # contexts of a class, below which nothing is fitted to it
_DRAW_KEY = 0x9B0E
FORMS = (
    '{"text": ..., "label": ...} or {"text": ..., "spans": [[first, end, label], ...]}, of games {"moves": ["C4", ...], '
    '"label": ...} or {"moves": ..., "labels": [...]}'
)
_KEYS = ({"text", "label"}, {"text", "spans"}, {"moves", "label"}, {"moves", "labels"})


@dataclasses.dataclass(frozen=True)
class Span:
    """Characters first..end - 1 of a text, and their label."""

    first: int
    end: int
    label: str


@dataclasses.dataclass(frozen=True)
class Labelled:
    """N contexts of one kind.

    Attributes:
      name: of the file. games: whether contexts are games. by_token: whether labels are of tokens, or moves.
      contexts: texts, or int [moves] token ids of games. lines: where each stands in the file.
      labels: a class each; by token: `Span`s of a text, or classes (None: left out) of a game's moves.
    """

    name: str
    games: bool
    by_token: bool
    contexts: Sequence[Any]
    labels: Sequence[Any]
    lines: Sequence[int]

    def __len__(self) -> int:
        return len(self.contexts)

    def classes(self) -> Counter:
        """{class: contexts that have it}, by name."""
        counts: Counter = Counter()
        for label in self.labels:
            counts.update(self._of(label))
        return Counter(dict(sorted(counts.items())))

    def _of(self, label: Any) -> set[str]:
        if not self.by_token:
            return {label}
        return {one.label if isinstance(one, Span) else one for one in label} - {None}

    def taken(self, count: int, seed: int) -> "Labelled":
        """`count` of them at most, drawn by `seed`, in the order of the file."""
        if count >= len(self):
            return self
        kept = np.sort(np.random.default_rng([seed, _DRAW_KEY]).permutation(len(self))[:count])
        pick = lambda values: [values[i] for i in kept]
        parts = {name: pick(getattr(self, name)) for name in ("contexts", "labels", "lines")}
        return dataclasses.replace(self, **parts)


def read(path: str, games: bool, count: int, seed: int) -> Labelled:
    """The labelled contexts of a file, `count` at most.

    Args:
      games: whether the model plays Othello, so that contexts are to be games.

    Raises:
      InputError: no such file; a line that is none of `FORMS`, or of another form than the first; too few of a class.
    """
    if not Path(path).is_file():
        raise InputError(f"--probing_labels={path}: no such file. Give a JSONL file with a labelled context a line.")
    found: dict[str, list] = {"contexts": [], "labels": [], "lines": []}
    form = None
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                where = f"--probing_labels={path}: line {number}"
                keys, context, label = _parsed(line, where)
                if games != ("moves" in keys):
                    raise InputError(
                        f"{where}: holds a {'text' if games else 'game'}, and the dictionary's model "
                        f"{'plays Othello: give games' if games else 'reads text: give texts'}."
                    )
                if form not in (None, keys):
                    raise InputError(
                        f"{where}: has {sorted(keys)}, and the lines before {sorted(form)}: one form a file."
                    )
                form = keys
                for name, value in zip(found, (context, label, number), strict=True):
                    found[name].append(value)
    except UnicodeDecodeError:
        raise InputError(f"--probing_labels={path}: is no text in UTF-8. Give JSONL: {FORMS} a line.") from None
    if form is None:
        raise InputError(f"--probing_labels={path}: is empty. Give JSONL: {FORMS} a line.")
    labelled = Labelled(Path(path).stem, games, "label" not in form, **found).taken(count, seed)
    check_classes(labelled, path)
    return labelled


def check_classes(labelled: Labelled, path: str) -> None:
    """Raises `InputError` where there is nothing to tell apart, or too few contexts of a class to learn it from."""
    classes = labelled.classes()
    if not classes or (len(classes) < 2 and not (labelled.by_token and not labelled.games)):
        only = f"all have the label {next(iter(classes))!r}" if classes else "there is no label"
        raise InputError(f"--probing_labels={path}: of {len(labelled):,} contexts {only}: give two classes or more.")
    few = {name: n for name, n in classes.items() if n < FEWEST}
    if few:
        name, n = next(iter(few.items()))
        raise InputError(
            f"--probing_labels={path}: only {n} of {len(labelled):,} contexts have the label {name!r}, and a probe needs "
            f"{FEWEST}. Add some, merge classes or leave it out."
        )


def _parsed(line: str, where: str) -> tuple[frozenset[str], Any, Any]:
    """The form of a line, its context and its label or labels."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where}: is no JSON ({error.msg}). Give {FORMS} a line.") from None
    keys = next((keys for keys in _KEYS if isinstance(row, dict) and keys <= row.keys()), None)
    if keys is None or sum(key in row for key in ("label", "labels", "spans")) != 1 or {"text", "moves"} <= row.keys():
        raise InputError(f"{where}: has not the keys of {FORMS}.")
    if "moves" in keys:
        context = moves_of(row["moves"], where)
        if "label" in keys:
            return frozenset(keys), context, _class(row["label"], where)
        labels = row["labels"]
        if not isinstance(labels, list) or len(labels) != len(context):
            raise InputError(f"{where}: 'labels' must be a list of {len(context)}, one a move.")
        return frozenset(keys), context, [None if label is None else _class(label, where) for label in labels]
    text = row["text"]
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{where}: 'text' must be text that is not blank, got {text!r}.")
    if "label" in keys:
        return frozenset(keys), text, _class(row["label"], where)
    return frozenset(keys), text, _spans(row["spans"], text, where)


def _class(label: Any, where: str) -> str:
    if not isinstance(label, str | int) or label == "":
        raise InputError(f"{where}: a label must be a string, a whole number, true or false, got {label!r}.")
    return str(label).lower() if isinstance(label, bool) else str(label)


def _spans(spans: Any, text: str, where: str) -> list[Span]:
    """In the order of the text."""
    out = []
    if not isinstance(spans, list):
        raise InputError(f"{where}: 'spans' must be a list of [first, end, label], got {spans!r}.")
    for span in spans:
        whole = lambda n: isinstance(n, int) and not isinstance(n, bool)
        if not isinstance(span, list) or len(span) != 3 or not whole(span[0]) or not whole(span[1]):
            raise InputError(f"{where}: a span must be [first, end, label] in characters, got {span!r}.")
        if not 0 <= span[0] < span[1] <= len(text):
            raise InputError(f"{where}: span {span!r} is not within the text's {len(text):,} characters.")
        out.append(Span(span[0], span[1], _class(span[2], where)))
    out.sort(key=lambda span: span.first)
    for before, after in pairwise(out):
        if after.first < before.end:
            raise InputError(
                f"{where}: spans from {before.first} and from {after.first} overlap: give a token one label."
            )
    return out
