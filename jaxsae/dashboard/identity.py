"""What a record is of, so that one that is there is taken where the same would be made again."""

import dataclasses
import zlib
from typing import Any

import numpy as np

from jaxsae.dashboard.settings import Settings
from jaxsae.dictionary import Dictionary
from jaxsae.evaluate.context import Context
from jaxsae.version import __version__

_ROWS = 16  # of each parameter, spread evenly


def identity(context: Context, store: str, settings: Settings) -> dict[str, Any]:
    """Plain JSON, the same where a record comes out the same: of the dictionary, of what is searched, and how.

    Args:
      store: as it was asked for.

    Returns:
      This; `dictionary` is its `mark`, and `set`, of a dictionary that is collected with others, {name: mark} of them all.
    """
    metadata = context.dictionary.metadata
    return {
        "dictionary": mark(context.dictionary),
        "source": store or metadata.get("store") or metadata.get("model") or "",
        "holdout_rows": metadata.get("holdout_rows"),
        "settings": dataclasses.asdict(settings),
        "set": {},
        "version": __version__,
    }


def mark(dictionary: Dictionary) -> str:
    """A checksum of a few rows of every parameter and of what else decides latents."""
    crc = zlib.crc32(f"{dictionary.config} {dictionary.threshold!r}".encode())
    leaves = dictionary.params.latent | dictionary.params.shared
    for name in sorted(leaves):
        leaf = leaves[name]
        rows = np.unique(np.linspace(0, len(leaf) - 1, _ROWS).astype(int)) if leaf.ndim > 1 else slice(None)
        crc = zlib.crc32(np.ascontiguousarray(np.asarray(leaf[rows])).tobytes(), zlib.crc32(name.encode(), crc))
    return f"{crc:08x}"
