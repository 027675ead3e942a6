"""How much of a dictionary's latents is collected."""

import dataclasses

import numpy as np

from jaxsae.config import check, check_positive
from jaxsae.errors import InputError

ROWS, GAMES = 262_144, 4_000


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is searched, and what is kept of it.

    Attributes:
      rows: of the store that are searched, at most, the last ones. trained_rows: also those before the held-out ones, on
        which the dictionary was trained. games: that are played of an Othello model instead.
      top: strongest contexts of a latent. bands, per_band: equal parts of 0 to its largest activation, and contexts drawn
        from each. before, after: tokens shown around the one that it fires on.
      which: latents to show, such as "0:1000,5"; "" all that fire.
      drawn: windows drawn at random, whatever fires in them. bins: of the histogram.
      neighbours: latents that are listed as near, and as firing together. tokens: of each end of the logit lens.
      parts: whether there is more than contexts: neighbours, the lens and windows drawn at random.
      seed: of games and draws.
    """

    rows: int = ROWS
    trained_rows: bool = False
    games: int = GAMES
    top: int = 10
    bands: int = 5
    per_band: int = 2
    before: int = 24
    after: int = 8
    which: str = ""
    drawn: int = 1000
    bins: int = 24
    neighbours: int = 8
    tokens: int = 10
    parts: bool = True
    seed: int = 0

    def __post_init__(self):
        check_positive(self, "rows", "games", "top", "bands", "bins")
        for name in ("per_band", "before", "after", "drawn", "neighbours", "tokens", "seed"):
            check(getattr(self, name) >= 0, name, getattr(self, name), "must be 0 or more")

    @property
    def length(self) -> int:
        """Tokens of a context, at most."""
        return self.before + 1 + self.after

    @property
    def per_latent(self) -> int:
        """Contexts of a latent, at most."""
        return self.top + self.bands * self.per_band


def numbers(which: str, width: int) -> np.ndarray:
    """int [m], ascending: the latents that `which` names, such as "0:1000,5"; an end may be left out.

    Raises:
      InputError: no such latents, or none.
    """
    parts, refused = [], f"--which={which}: give latents from 0 to {width - 1}, such as 0:1000,1234"
    for part in which.split(","):
        first, colon, last = (piece.strip() for piece in part.partition(":"))
        try:
            low = int(first or 0) if colon else int(first)
            high = (int(last) if last else width) if colon else low + 1
        except ValueError:
            raise InputError(f"{refused} ({part.strip()!r} is none)") from None
        if not 0 <= low < high <= width:
            raise InputError(f"{refused} ({part.strip()} is not there)")
        parts.append(np.arange(low, high))
    return np.unique(np.concatenate(parts))
