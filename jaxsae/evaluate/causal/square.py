"""The belief that a square of the board is theirs, turned to mine: which moves become legal, and which no longer are.

The rules say what the model should think legal on the board with that square flipped (Li et al., 2210.13382): B, the
probability of moves that become legal less that of those that no longer are, should go to that of a model that finds all
legal moves there equally likely. A change's share is how much of the way from the untouched model's B it goes, summed over
positions. Its price is what it does beside that: the KL among all other moves, and at later positions of the game.
"""

import dataclasses
from typing import Any

import numpy as np

from jaxsae.evaluate import games as play
from jaxsae.evaluate.causal.contexts import Contexts, game_batches
from jaxsae.evaluate.causal.task import Fitted, Scored, Task, renormalized
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.effects import seen
from jaxsae.evaluate.splice_figures import log_softmax
from jaxsae.evaluate.subject import GameSubject
from jaxsae.lm.othello import TOKEN_TO_SQUARE, U64, bits, legal_moves, square_of

FIT_GAMES = 300  # other games, of which probes and latents' means are taken
FIT_ROWS = 12_000
FEWEST = 8  # contexts below which nothing is said
_KEY = 0x50A3


@dataclasses.dataclass(frozen=True)
class Flip:
    """What the rules say of R positions with a square turned from theirs to mine, for the player to move next.

    Attributes:
      before, after: bool [R, 60], tokens that are legal moves.
    """

    before: np.ndarray
    after: np.ndarray

    @classmethod
    def of(cls, own: np.ndarray, opponent: np.ndarray, square: int) -> "Flip":
        """Of boards uint64 [R] where the square is the opponent's."""
        bit = U64(1) << U64(square)
        turned = legal_moves(own | bit, opponent & ~bit)
        as_tokens = lambda masks: bits(masks)[..., TOKEN_TO_SQUARE].astype(bool)
        return cls(as_tokens(legal_moves(own, opponent)), as_tokens(turned))

    @property
    def appear(self) -> np.ndarray:
        """bool [R, 60]: moves that become legal."""
        return self.after & ~self.before

    @property
    def vanish(self) -> np.ndarray:
        """bool [R, 60]: moves that no longer are."""
        return self.before & ~self.after

    @property
    def usable(self) -> np.ndarray:
        """bool [R]: that differ, and leave some move."""
        return (self.before != self.after).any(1) & self.after.any(1)

    def score(self, original: np.ndarray, changed: np.ndarray, spill: np.ndarray) -> Scored:
        """Of logits [R, 60]."""
        p, q = (np.exp(log_softmax(logits)) for logits in (original, changed))
        of = lambda shares: (shares * self.appear).sum(1) - (shares * self.vanish).sum(1)
        goal = self.appear.sum(1) / self.after.sum(1)
        price = renormalized(original, changed, ~(self.appear | self.vanish))
        return Scored(of(q) - of(p), goal - of(p), price, spill, self.errors(changed))

    def errors(self, logits: np.ndarray) -> np.ndarray:
        """[R]: of the top moves, as many as are legal after the flip, those that are not, and legal ones that are not
        among them (Li et al.'s count)."""
        place = np.argsort(np.argsort(-logits, axis=1, kind="stable"), axis=1, kind="stable")
        return ((place < self.after.sum(1, keepdims=True)) ^ self.after).sum(1).astype(np.float64)


def open_task(context: Context, subject: GameSubject) -> tuple[Task | None, dict[str, Any]]:
    """The square of --causal_square, or the one whose flip changes legal moves in the most games, in positions of held-out
    games, one of each; and what it is of. None where fewer than 8 games have such a position."""
    config, rng = context.config, np.random.default_rng([context.config.seed, _KEY])
    games, plies = subject.played, np.arange(subject.positions.start, min(subject.positions.stop, 59))
    wanted = square_of(config.causal.causal_square.strip()) if config.causal.causal_square else None
    own, opponent = games.own[:, plies], games.opponent[:, plies]
    squares, best = range(64) if wanted is None else [wanted], (-1, -1, None)
    for square in squares:
        usable = _usable(own, opponent, square)
        best = max(best, (int(usable.any(1).sum()), int(usable.sum()), square), key=lambda found: found[:2])
    count, rows, square = best
    about = {
        "square": f"{'ABCDEFGH'[square % 8]}{square // 8 + 1}",
        "given": wanted is not None,
        "games_with_it": count,
    }
    about |= {"positions_with_it": rows}
    if count < FEWEST:
        return None, about
    usable = _usable(own, opponent, square)
    row = np.flatnonzero(usable.any(1))[: config.causal.causal_boards]
    ply = plies[np.where(usable[row], rng.random((len(row), len(plies))), -1).argmax(1)]
    flip = Flip.of(games.own[row, ply], games.opponent[row, ply], square)
    tune = np.arange(len(row)) < len(row) // 4
    parts = []
    for some in (tune, ~tune):
        batches, after = game_batches(games.moves[row[some]], ply[some], subject.size, after=True)
        rules = Flip(flip.before[some], flip.after[some])
        parts.append((Contexts.of(context, subject, batches, after), rules.score))
    about |= {"appear": float(flip.appear.sum(1).mean()), "vanish": float(flip.vanish.sum(1).mean())}
    return Task(*parts[0], *parts[1], _fitted(context, subject, square)), about


def _usable(own: np.ndarray, opponent: np.ndarray, square: int) -> np.ndarray:
    """bool [G, P]: theirs, and some move's legality hangs on it."""
    theirs = (opponent >> U64(square)) & U64(1) != 0
    out = np.zeros(own.shape, bool)
    out[theirs] = Flip.of(own[theirs], opponent[theirs], square).usable
    return out


def _fitted(context: Context, subject: GameSubject, square: int) -> Fitted:
    """Rows of other games on which the square is mine or theirs."""
    games = play.held_out_games(FIT_GAMES, context.config.seed, play.FITTED)
    y, latents, mine = [], [], []
    for start in range(0, len(games), subject.size):
        part = games[start : start + subject.size]
        batch = subject.batch(part)
        found = seen(context, subject, batch)
        own, other = (((masks[:, :59] >> U64(square)) & U64(1) != 0)[batch.kept] for masks in (part.own, part.opponent))
        some = np.flatnonzero(own | other)
        y.append(found.y[some])
        latents.append(found.latents[some])
        mine.append(own[some])
    return Fitted.of(y, latents, mine, FIT_ROWS)
