"""The flags of `--suite=othello` alone."""

import dataclasses

from jaxsae.config import check, check_positive, option
from jaxsae.lm.othello import CONTEXT


@dataclasses.dataclass(frozen=True)
class OthelloConfig:
    """What is measured of the board beside single latents."""

    othello_k: tuple[int, ...] = option(
        (1, 2, 5, 16), "othello: latents of a probe, ascending; the last reconstructs boards, too"
    )
    othello_games: int = option(
        300, "othello: of --games those, at most, that probes of few latents and whole boards are judged on"
    )
    othello_played: int = option(
        200, "othello: games that the model plays to the end, with each stand-in for its activations; 0: none"
    )
    othello_opening: int = option(8, "othello: random legal moves that such a game begins with")

    def __post_init__(self):
        check_positive(self, "othello_games")
        sizes = self.othello_k
        shown = ",".join(map(str, sizes))
        rising = list(sizes) == sorted(set(sizes)) and bool(sizes) and sizes[0] > 0
        check(rising, "othello_k", shown, "give numbers of latents from 1 on, ascending")
        check(self.othello_played >= 0, "othello_played", self.othello_played, "must be 0 or more")
        fits = 1 <= self.othello_opening < CONTEXT
        check(fits, "othello_opening", self.othello_opening, f"must be from 1 to {CONTEXT - 1}")
