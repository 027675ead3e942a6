"""What an auto-labeller needs of each latent, a JSON object on each line; jaxsae asks no language model itself.

A line says how often and how strongly a latent fires, on what, and on what it does not, with activations raw and as whole
numbers from 0 to 10 (Bills et al. 2023: floor(10 a / largest), nothing below 0). Half of the examples are for explaining and
half for scoring, by sequence, so that a label is not judged by what it was made of. Windows where the latent is silent are
for detection, fuzzing and simulation (Paulo et al. 2410.13928): some drawn at random, and some where latents fire that fire
with it or point its way, which tell a good label from a vague one. A labeller adds `text` to lines, and
`report --latents --labels=FILE` reads the file.
"""

import json
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from jaxsae.dashboard.record import Record
from jaxsae.dictionary import Dictionary
from jaxsae.exchange import examples
from jaxsae.exchange.examples import Example
from jaxsae.exchange.files import read_json
from jaxsae.files import write_json
from jaxsae.progress import Progress
from jaxsae.version import __version__

LINES, ABOUT = "contexts.jsonl", "contexts.json"
FILES = frozenset({LINES, ABOUT})
KEYS = {
    "latent, site": "which; width latents are numbered from 0",
    "frequency, rows": "share of the rows searched on which it fires, and how many were searched",
    "mean, most": "its activation where it fires, and the largest",
    "promoted, suppressed": "tokens at both ends of the logit lens, and logits for a decoder row of length 1",
    "examples": "contexts in which it fires, the strongest first, then by band",
    "examples.use": "explain: make labels of these; score: judge labels by these. A sequence has one use",
    "examples.band": "0: of the strongest of all; b from 1 to bands: drawn from activations of (b - 1) to b parts of most",
    "examples.tokens, activations": "text of each token, and the latent's activation there",
    "examples.scaled": f"floor({examples.MOST} * activation / most), from 0 to {examples.MOST}",
    "examples.at": "which token it was chosen for",
    "examples.sequence, position": "where that token is",
    "examples.unknown": "tokens, by place, whose activations were not harvested; they stand as 0",
    "inactive": "windows in which it fires nowhere, all for scoring: tokens, and activations of 0",
    "inactive.beside": "a latent that fires there and fires with this one or points its way; null: drawn at random",
    "inactive.sequence, position": "where its first token is",
    "text": "for a labeller to add: what the latent stands for",
}


def write(record: Record, dictionary: Dictionary, output: Path, site: str) -> None:
    """Writes the two files into the directory `output`; an inactive window for each example where there are enough."""
    kept = ("kind", "rows", "sequences", "width", "d_model", "architecture", "bands", "seed")
    about = {name: record.about[name] for name in kept if name in record.about}
    about |= {"tokenizer": examples.base(str(record.about.get("tokenizer") or ""))}
    about |= {"site": site, "model": examples.model_name(dictionary.metadata), "latents": len(record.shown)}
    write_json(output / ABOUT, {"version": __version__, "format": "contexts", "keys": KEYS, **about})
    silent = _Silent(record)
    with (
        Progress(len(record.shown), "contexts", " latents") as progress,
        (output / LINES).open("w", encoding="utf-8") as file,
    ):
        for i in range(len(record.shown)):
            file.write(json.dumps(_line(record, i, silent, site), allow_nan=False) + "\n")
            progress.advance(1)


def _line(record: Record, i: int, silent: "_Silent", site: str) -> dict[str, Any]:
    latent, found = int(record.shown[i]), examples.of_latent(record, i)
    active = [_example(example, use) for example, use in _uses(found)]
    lens = {"promoted": examples.promoted(record, i), "suppressed": examples.suppressed(record, i)}
    return {
        "latent": latent,
        "site": site,
        "frequency": examples.rounded(record.frequency[latent]),
        "rows": record.about.get("rows"),
        "mean": examples.rounded(np.nan_to_num(record.mean[latent])),
        "most": examples.rounded(record.most[latent]),
        **{name: {"tokens": tokens, "logits": logits} for name, (tokens, logits) in lens.items()},
        "examples": active,
        "inactive": [silent.example(window, beside) for window, beside in silent.windows(i, len(active))],
    }


def _uses(found: list[Example]) -> Iterator[tuple[Example, str]]:
    """Each place once, with its use: in turn within a band, and one for all contexts of a sequence."""
    places: set[tuple[int, int]] = set()
    of_sequence: dict[int, str] = {}
    count: dict[int, int] = {}
    for example in found:
        place = example.sequence, example.position
        if place in places:
            continue
        places.add(place)
        if example.sequence not in of_sequence:
            of_sequence[example.sequence] = ("explain", "score")[count.get(example.band, 0) % 2]
            count[example.band] = count.get(example.band, 0) + 1
        yield example, of_sequence[example.sequence]


def _example(example: Example, use: str) -> dict[str, Any]:
    unknown = {"unknown": example.unknown} if example.unknown else {}
    return {
        "use": use,
        "band": example.band,
        "tokens": example.tokens,
        "activations": example.values,
        "scaled": example.scaled,
        "at": example.at,
        "sequence": example.sequence,
        "position": example.position,
        **unknown,
    }


class _Silent:
    """Windows of a record in which a latent is known not to fire."""

    def __init__(self, record: Record):
        self._record, self._count = record, len(record.drawn)
        order = np.argsort(record.drawn_fires, kind="stable")
        self._windows = np.repeat(np.arange(self._count), np.diff(record.drawn_start))[order]
        self._start = np.searchsorted(record.drawn_fires[order], np.arange(record.width + 1))
        self._texts = [examples.words(record, tokens[tokens >= 0]) for tokens in record.drawn]
        # A token without a word, where those of the examples have one, would tell the two kinds apart.
        used = [{*tokens.tolist()} - {-1} for tokens in record.drawn]
        self._unread = {w for w, tokens in enumerate(used) if record.words and not tokens <= record.words.keys()}
        self._order = np.random.default_rng(record.about.get("seed", 0)).permutation(self._count)

    def with_(self, latent: int) -> np.ndarray:
        """Windows in which a latent fires."""
        return self._windows[self._start[latent] : self._start[latent + 1]]

    def windows(self, i: int, count: int) -> list[tuple[int, int | None]]:
        """(window, latent that fires there and is near shown[i]; None where it was drawn at random), half of each."""
        latent = int(self._record.shown[i])
        taken = {*self.with_(latent).tolist()} | self._unread
        out: list[tuple[int, int | None]] = []
        for window, beside in chain(self._beside(i, count // 2, taken), self._random(latent)):
            if len(out) == count:
                break
            if window not in taken:
                taken.add(window)
                out.append((window, beside))
        return out

    def _beside(self, i: int, count: int, taken: set[int]) -> Iterator[tuple[int, int]]:
        """One window of each latent that fires with shown[i] or points its way, round by round."""
        record = self._record
        together = record.together[""][0][i] if "" in record.together else np.zeros(0, int)
        near = [n for n in dict.fromkeys([*together.tolist(), *record.nearest[i].tolist()]) if 0 <= n < record.width]
        own = self._generator(int(record.shown[i]))
        left = {n: own.permutation(self.with_(n)).tolist() for n in near if n != record.shown[i]}
        while count and any(left.values()):
            for n, windows in left.items():
                while windows and windows[-1] in taken:
                    windows.pop()
                if windows and count:
                    count -= 1
                    yield windows.pop(), n

    def _random(self, latent: int) -> Iterator[tuple[int, None]]:
        for window in np.roll(self._order, self._generator(latent).integers(max(self._count, 1))).tolist():
            yield window, None

    def _generator(self, latent: int) -> np.random.Generator:
        return np.random.default_rng([self._record.about.get("seed", 0), latent])

    def example(self, window: int, beside: int | None) -> dict[str, Any]:
        record = self._record
        tokens = self._texts[window]
        place = {"sequence": int(record.drawn_sequence[window]), "position": int(record.drawn_position[window])}
        zeros = [0] * len(tokens)
        return {"use": "score", "beside": beside, "tokens": tokens, "activations": zeros, "scaled": zeros, **place}


def snippet(output: Path) -> str:
    """Python that reads the export."""
    return (
        "import json\n"
        f"lines = [json.loads(line) for line in open({json.dumps(str(output / LINES))})]\n"
        'prompts = {line["latent"]: [e for e in line["examples"] if e["use"] == "explain"] for line in lines}'
    )


def is_here(path: Path) -> bool:
    """Whether `path` is a directory of this format."""
    return (path / LINES).is_file() and (path / ABOUT).is_file() and read_json(path / ABOUT).get("format") == "contexts"


def facts(path: Path) -> Mapping[str, object]:
    """What is in a folder, by name."""
    about = read_json(path / ABOUT)
    return {name: about.get(name) for name in ("latents", "width", "architecture", "model", "site", "rows")}
