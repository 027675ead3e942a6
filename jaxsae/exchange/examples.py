"""A record's contexts as words and numbers, for files that are made of what latents fire on."""

import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxsae.dashboard.record import Record
from jaxsae.dictionary import Dictionary
from jaxsae.errors import InputError
from jaxsae.exchange import provenance

DIGITS = 5  # significant ones of numbers in files
MOST = 10  # of activations as whole numbers


@dataclasses.dataclass(frozen=True)
class Example:
    """A context of L tokens.

    Attributes:
      tokens: as people read them. values: the latent's activations, rounded, 0 where they are not known. scaled: the same as
        whole numbers. unknown: places of those. at: which token it was chosen for. band: as in a `Record`. sequence,
        position: where that token is.
    """

    tokens: list[str]
    values: list[float]
    scaled: list[int]
    unknown: list[int]
    at: int
    band: int
    sequence: int
    position: int


def of_latent(record: Record, i: int, factor: float = 1.0) -> list[Example]:
    """Those of latent shown[i], in the record's order; `factor`: what `values` are multiplied by."""
    own = slice(int(record.start[i]), int(record.start[i + 1]))
    tokens_PxL, values_PxL = record.tokens[own], record.values[own]
    lengths = (tokens_PxL >= 0).sum(1).tolist()
    unknown = np.isnan(values_PxL)
    values_PxL = np.where(unknown, 0, values_PxL)
    values = rounded(factor * values_PxL)
    whole = scaled(values_PxL, float(record.most[record.shown[i]]))
    places = [column[own].tolist() for column in (record.at, record.band, record.sequence, record.position)]
    return [
        Example(
            words(record, tokens_PxL[p, :length]),
            values[p][:length],
            whole[p][:length],
            np.flatnonzero(unknown[p, :length]).tolist(),
            *(column[p] for column in places),
        )
        for p, length in enumerate(lengths)
    ]


def scaled(values: np.ndarray, most: float) -> list[Any]:
    """Activations as whole numbers from 0 to `MOST`, rounded down as Bills et al. 2023 do: floor(10 a / largest)."""
    if most <= 0:
        return np.zeros(values.shape, int).tolist()
    return np.minimum(MOST, np.floor(MOST * np.maximum(values.astype(np.float64), 0) / most)).astype(int).tolist()


def words(record: Record, tokens: Iterable[int]) -> list[str]:
    """Tokens as people read them; the number of one that has no word."""
    known = record.words
    return [known[token] if token in known else str(token) for token in np.asarray(tokens).tolist()]


def promoted(record: Record, i: int) -> tuple[list[str], list[float]]:
    """Tokens that latent shown[i] speaks for by the logit lens, the strongest first, and their logits."""
    return _lens(record, record.promoted[i], record.promoted_weights[i], -1)


def suppressed(record: Record, i: int) -> tuple[list[str], list[float]]:
    """Those it speaks against, the strongest first."""
    return _lens(record, record.suppressed[i], record.suppressed_weights[i], 1)


def _lens(record: Record, tokens: np.ndarray, weights: np.ndarray, sign: int) -> tuple[list[str], list[float]]:
    order = np.argsort(sign * weights, kind="stable")
    order = order[tokens[order] >= 0]
    return words(record, tokens[order]), rounded(weights[order])


def rounded(values: Any) -> Any:
    """Numbers, or one, as Python's, to `DIGITS` significant digits."""
    values = np.asarray(values, np.float64)
    size = np.floor(np.log10(np.abs(values), where=values != 0, out=np.zeros_like(values)))
    scale = 10.0 ** (DIGITS - 1 - size)
    return (np.round(values * scale) / scale).tolist()


def model_name(metadata: Mapping[str, Any]) -> str:
    """The model's; of one in a directory of this machine, that directory's."""
    return base(provenance.model_name(metadata))


def base(name: str) -> str:
    """A hub id as it is, of a path the last part: what is above it is of this machine."""
    return Path(name).name if os.path.isabs(name) else name


def check(record: Record, path: Path, dictionary: Dictionary, file_format: str, again: str) -> None:
    """Refuses a record that is not of this dictionary, or that holds nothing that `file_format` could.

    Args:
      path: where the record is. again: command that collects another.

    Raises:
      InputError: another width, d_model or architecture; contexts without tokens; no latents in it.
    """
    about, config = record.about, dictionary.config
    pairs = {
        "width": (record.width, dictionary.width),
        "d_model": (about.get("d_model"), dictionary.d_model),
        "architecture": (about.get("architecture"), config.architecture),
    }
    for name, (recorded, own) in pairs.items():
        if None not in (recorded, own) and recorded != own:
            raise InputError(
                f"{path}: is of another dictionary: its {name} is {recorded}, and the run's {own}. "
                f"Collect it again: {again}"
            )
    if about.get("kind") == "rows" or not record.tokens.shape[1]:
        raise InputError(
            f"--format={file_format}: the rows of this run's store are of no tokens, so there is no text to write. "
            "Formats of weights (saelens, sparsify, dictionary_learning) hold the dictionary."
        )
    if not len(record.shown):
        raise InputError(
            f"{path}: shows no latent: none fired on the {about.get('rows', 0):,} rows that were searched. Search more "
            f"of them: {again}"
        )
