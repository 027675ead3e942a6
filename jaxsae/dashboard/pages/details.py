"""What the page of one latent is drawn from: blocks of some latents each, of which a reader loads one at a time."""

from pathlib import Path

import numpy as np

from jaxsae.dashboard.pages.block import narrow, write_block
from jaxsae.dashboard.pages.vocabulary import Vocabulary
from jaxsae.dashboard.record import Record

PAGE = 64  # latents of a block: some tens of kilobytes, so that the next one is there at once
_CONTEXTS = ("band", "sequence", "position", "at")


def page_arrays(record: Record, words: Vocabulary, first: int) -> dict[str, np.ndarray]:
    """Arrays of the latents shown[first : first + PAGE].

    Tokens are indices of words; `start` counts from 0; contexts are as long as the longest of the page; a board is two
    uint32, its low half first. Otherwise as `Record` has them.
    """
    rows = slice(first, min(first + PAGE, len(record.shown)))
    start = record.start[rows.start : rows.stop + 1]
    places = slice(int(start[0]), int(start[-1]))
    tokens = record.tokens[places]
    length = int((tokens >= 0).any(0).nonzero()[0].max(initial=-1)) + 1 if tokens.size else 0
    held = {
        "latents": record.shown[rows].astype(np.int32),
        "histogram": narrow(record.histogram[rows]),
        "promoted": words.index(record.promoted[rows]),
        "promoted_weights": record.promoted_weights[rows].astype(np.float32),
        "suppressed": words.index(record.suppressed[rows]),
        "suppressed_weights": record.suppressed_weights[rows].astype(np.float32),
        "nearest": narrow(record.nearest[rows]),
        "nearest_cosine": record.nearest_cosine[rows].astype(np.float32),
        "start": narrow(start - start[0]),
        "tokens": words.index(tokens[:, :length]),
        "values": record.values[places, : length or None].astype(np.float32),
    }
    held |= {name: narrow(getattr(record, name)[places]) for name in _CONTEXTS}
    for i, (latents, phi) in enumerate(record.together.values()):
        held |= {f"together_{i}": narrow(latents[rows]), f"together_{i}_phi": phi[rows].astype(np.float32)}
    if len(record.mine):
        held |= {name: _halves(getattr(record, name)[places]) for name in ("mine", "theirs")}
    return held


def write_page(folder: Path, key: str, record: Record, words: Vocabulary, number: int) -> int:
    """Writes block `number`; returns its bytes."""
    return write_block(folder / f"{number}.js", f"{key}/{number}", page_arrays(record, words, number * PAGE))


def _halves(boards: np.ndarray) -> np.ndarray:
    """uint64 [P] -> uint32 [P, 2]: JavaScript's numbers hold 53 bits."""
    return np.ascontiguousarray(boards.astype("<u8")).view("<u4").reshape(len(boards), 2)
