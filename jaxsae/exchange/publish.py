"""What is written of an export's dictionaries, and the card that goes with them to the hub."""

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from jaxsae.exchange import saelens
from jaxsae.exchange.exported import ONE_SET, Exported
from jaxsae.exchange.formats import FORMATS
from jaxsae.exchange.holds import PLAIN
from jaxsae.exchange.hub import HubName
from jaxsae.exchange.publish_names import CARD, public
from jaxsae.files import write_text
from jaxsae.progress import say

_SHOWN = 12


class Settings(Protocol):
    """What of the flags of `jaxsae export` counts here."""

    run: str
    format: str
    dtype: str
    shard_gb: float
    push: str
    licence: str


def write(exported: Sequence[Exported], output: Path, config: Settings) -> None:
    """Writes the dictionaries into `output`: one, each in its folder, or all as one set."""
    file_format, flags = FORMATS[config.format], {"dtype": config.dtype}
    if config.format == PLAIN:
        flags["shard_bytes"] = config.shard_gb * 1e9
    found = [_public(one.dictionary) if config.push else one.dictionary for one in exported]
    if config.format == ONE_SET:
        others = {"others": found[1:]} if len(found) > 1 else {}
        file_format.write(found[0], output, **flags, **others)
        return
    for one, dictionary in zip(exported, found, strict=True):
        folder = output / one.folder
        folder.mkdir(exist_ok=True)
        frequency = _frequencies(one.run, dictionary.width) if config.format == "saelens" else None
        file_format.write(dictionary, folder, **flags)
        if frequency is not None:
            saelens.write_sparsity(folder, frequency)


def _public(dictionary):
    return dataclasses.replace(dictionary, metadata=public(dictionary.metadata))


def card_of(exported: Sequence[Exported], config: Settings, repo: str, code: str) -> str:
    """The model card.

    Args:
      code: what loads the export, where `path` is its folder; "": not written yet.
    """
    from jaxsae.exchange.card import card
    from jaxsae.training.sets import is_set

    whole = Path(config.run) if is_set(config.run) else None
    return card(exported, whole, config.format, config.dtype, repo, config.licence, code)


def write_card(exported: Sequence[Exported], output: Path, config: Settings, repo: str) -> None:
    """Writes the model card beside the files."""
    there = output / exported[0].folder
    here = re.escape(json.dumps(str(output))[1:-1])
    inside = lambda match: f'f"{{path}}{match.group(1)}"' if match.group(1) else "path"
    code = re.sub(rf'f?"{here}([^"]*)"', inside, FORMATS[config.format].snippet(there))
    write_text(output / CARD, card_of(exported, config, repo, code))


def would_push(output: Path, name: HubName) -> list[str]:
    """What a push would send, in lines."""
    sizes = {path.relative_to(output).as_posix(): path.stat().st_size for path in output.rglob("*") if path.is_file()}
    lines = [f"  {file}  {size:,} bytes" for file, size in sorted(sizes.items())]
    if len(lines) > _SHOWN:
        lines = [*lines[: _SHOWN - 1], f"  ... and {len(lines) - _SHOWN + 1} more"]
    return [f"Would push {len(sizes)} files, {sum(sizes.values()):,} bytes, to {name}:", *lines]


def _frequencies(run: Path, width: int) -> np.ndarray | None:
    """Firing frequency [n] of each latent, where the run was evaluated."""
    path = run / "eval" / "frequencies.npz"
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            frequency = np.asarray(file["frequency"], np.float64)
    except (KeyError, ValueError, OSError) as error:
        say(f"{path}: cannot be read ({error}); the export goes without sparsity.safetensors.")
        return None
    if frequency.shape != (width,) or not np.isfinite(frequency).all():
        say(f"{path}: is not of this dictionary; the export goes without sparsity.safetensors.")
        return None
    return frequency
