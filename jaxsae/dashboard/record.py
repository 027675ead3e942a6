"""What was found of a dictionary's latents, as arrays in one .npz file: pages and other tools' files are made of it."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from jaxsae.errors import InputError
from jaxsae.files import replace

FOLDER, RECORD = "latents", "record.npz"  # of a run; in the folder of a set NAME.npz of each of its runs
VERSION = 1
TOP = 0  # `band` of the strongest contexts


@dataclasses.dataclass(frozen=True)
class Record:
    """n latents, of which m are shown; P contexts of L tokens each; H bins, T tokens of each end, N neighbours.

    Attributes:
      about: plain JSON: `run`, `kind` ("text", "othello" or "rows", which have no tokens), `site`, `model`, `tokenizer`,
        `store`, `rows` and `sequences` that were searched, `width`, `d_model`, `architecture`, `bands`, `seed`, `version`.
      frequency: float32 [n], share of the rows on which a latent fires. mean: [n], where it does. most: [n], its largest.
      norm: float32 [n], length of its decoder row. auroc: float32 [n] of the board's target it tells best, and target:
        int32 [n], which of the 192; NaN and -1 where nothing is known.
      shown: int32 [m], ascending; what follows is theirs, row i of latent shown[i].
      histogram: int32 [m, H], rows by activation, H equal bins from 0 to `most`.
      promoted, suppressed: int32 [m, T], tokens at both ends of the logit lens, -1 where there is none; promoted_weights,
        suppressed_weights: float32 [m, T], logits for a direction of length 1. T is 0 where there is no lens.
      nearest: int32 [m, N], latents with the most similar decoder rows, and nearest_cosine: float32.
      together: {name of a dictionary: (int32 [m, N], float32 [m, N])}, latents that fire with it and the correlation of
        firing (phi); "" is the dictionary's own name, and others are those of its set.
      start: int64 [m + 1]: contexts of shown[i] are start[i]:start[i + 1], the strongest first, then band by band.
      band: int8 [P], TOP of the strongest, else 1 (lowest) to about["bands"], the equal parts of 0 to `most` it is of.
      sequence, position: int32 [P], where. at: int16 [P], which of its tokens fires.
      tokens: int32 [P, L], -1 behind the last. values: float32 [P, L], the latent's activation at each, NaN where that
        position was not harvested.
      mine, theirs: uint64 [P], discs on the board by bit (a1 is bit 0), as the player to move sees it; [0] without boards.
      words: {token: how people read it}.
      drawn: int32 [S, L], windows of tokens drawn at random (`drawn.py`), all of whose positions were harvested; S is 0 where
        none were. drawn_sequence, drawn_position: int32 [S], where their first token is. drawn_start: int64 [S + 1]:
        drawn_fires[drawn_start[s]:drawn_start[s + 1]], int32, are the latents that fire anywhere in s, and no others do.
    """

    about: dict[str, Any]
    frequency: np.ndarray
    mean: np.ndarray
    most: np.ndarray
    norm: np.ndarray
    auroc: np.ndarray
    target: np.ndarray
    shown: np.ndarray
    histogram: np.ndarray
    promoted: np.ndarray
    promoted_weights: np.ndarray
    suppressed: np.ndarray
    suppressed_weights: np.ndarray
    nearest: np.ndarray
    nearest_cosine: np.ndarray
    together: Mapping[str, tuple[np.ndarray, np.ndarray]]
    start: np.ndarray
    band: np.ndarray
    sequence: np.ndarray
    position: np.ndarray
    at: np.ndarray
    tokens: np.ndarray
    values: np.ndarray
    mine: np.ndarray
    theirs: np.ndarray
    words: dict[int, str]
    drawn: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 0), np.int32))
    drawn_sequence: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int32))
    drawn_position: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int32))
    drawn_start: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(1, np.int64))
    drawn_fires: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int32))

    @property
    def width(self) -> int:
        """Number of latents, n."""
        return len(self.frequency)

    def contexts(self, i: int) -> range:
        """Those of latent shown[i]."""
        return range(int(self.start[i]), int(self.start[i + 1]))


_PLAIN = tuple(f.name for f in dataclasses.fields(Record) if f.name not in ("about", "together", "words"))
_TOGETHER = "together"


def save(record: Record, path: Path) -> None:
    """Writes it whole or not at all."""
    words = {str(token): word for token, word in record.words.items()}
    told = {"version": VERSION, "about": record.about, "words": words, "together": list(record.together)}
    arrays = {name: getattr(record, name) for name in _PLAIN}
    for i, (latents, scores) in enumerate(record.together.values()):
        arrays |= {f"{_TOGETHER}_{i}": latents, f"{_TOGETHER}_{i}_phi": scores}
    arrays["json"] = np.frombuffer(json.dumps(told).encode(), np.uint8)
    replace(path, lambda file: np.savez_compressed(file, **arrays))


def load(path: Path) -> Record:
    """What `save` wrote.

    Raises:
      InputError: no such file, damaged, or of another version.
    """
    again = "Collect it again: jaxsae report --run=RUN --latents"
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        told = json.loads(arrays.pop("json").tobytes())
        if told["version"] != VERSION:
            raise InputError(f"{path}: is of version {told['version']}, and {VERSION} is read. {again}")
        together = {
            name: (arrays[f"{_TOGETHER}_{i}"], arrays[f"{_TOGETHER}_{i}_phi"])
            for i, name in enumerate(told["together"])
        }
        words = {int(token): word for token, word in told["words"].items()}
        return Record(told["about"], **{n: arrays[n] for n in _PLAIN}, together=together, words=words)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file. {again}") from None
    except (KeyError, ValueError, OSError, EOFError, BadZipFile) as error:
        raise InputError(f"{path}: is damaged ({error}). {again}") from None
