"""The board's analogue of first letters: parents are states of squares, which more specific latents may carry.

A word's first letter is a property that hundreds of words share, told by a linear probe, which a dictionary could give one
latent; absorption is where a latent of some words alone ("short") writes the letter's direction as well, so that the letter's
own latent stays silent there, though it holds. On the board "D3 is mine" is such a property: linear in the residual stream
of the Othello GPT (Nanda et al., 2309.00941), shared by a third of all positions, and implied by many narrower ones ("D3 was
just taken by a move on D2", "column D is mine from D3 to D6"), for which a dictionary has latents of their own. So:

  word -> position of a game, letter -> (square, mine / theirs / empty), vocabulary split by word -> positions split by game.

Letters exclude each other and are one of 26; states of squares do not, and hold more often. F1 of a probe that always says
yes is then no longer near 0, so that a parent counts only where its sparse probe, too, gains enough over that: main latents
that are none would make all the rest look absorbed.
"""

import numpy as np

from jaxsae.evaluate import games as play
from jaxsae.evaluate.absorption.seen import Seen, read_both
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.subject import GameSubject
from jaxsae.lm.othello import bits, square_name
from jaxsae.progress import Progress

POSITIONS_OF_A_GAME, TEST_SHARE = 8, 1 / 3
_SQUARES_KEY, _POSITIONS_KEY = 0xA1B3, 0xA1B4


def parents(context: Context) -> list[tuple[str, int]]:
    """(state, square), square by square."""
    some = context.config.absorption
    rng = np.random.default_rng([context.config.seed, _SQUARES_KEY])
    squares = np.sort(rng.permutation(64)[: some.absorption_squares])
    return [(state, int(square)) for square in squares for state in some.absorption_parents]


def name(state: str, square: int) -> str:
    """Such as "mine D3"."""
    return f"{state} {square_name(square)}"


def read_boards(context: Context, subject: GameSubject) -> tuple[Seen, Seen]:
    """Rows that fit, and rows that judge, of other games.

    Raises:
      InputError: NaN in the activations.
    """
    config, positions = context.config, context.positions
    each = min(POSITIONS_OF_A_GAME, positions.stop - positions.start)
    games = play.held_out_games(max(3, -(-config.absorption.absorption_rows // each)), config.seed, play.PARENTS)
    rng = np.random.default_rng([config.seed, _POSITIONS_KEY])
    plies = np.stack([np.sort(rng.permutation(positions.stop - positions.start)[:each]) for _ in range(len(games))])
    seen = []
    with Progress(len(games), "absorption", "game") as bar:
        for start in range(0, len(games), config.games_per_batch):
            some = games[start : start + config.games_per_batch]
            batch = subject.batch(some)
            chosen = np.zeros_like(batch.kept)
            np.put_along_axis(chosen, positions.start + plies[start : start + len(some)], True, 1)
            seen.append([rows[chosen[batch.kept]] for rows in read_both(context, subject, batch)])
            bar.advance(len(some))
    read, written = (np.concatenate(part) for part in zip(*seen, strict=True))
    pick = lambda masks: np.take_along_axis(masks[:, positions], plies, 1).ravel()
    mine, theirs = (bits(pick(masks)).astype(bool) for masks in (games.own, games.opponent))
    states = {"mine": mine, "theirs": theirs, "empty": ~(mine | theirs)}
    labels = np.stack([states[state][:, square] for state, square in parents(context)], 1)
    whole = Seen(read, written, np.repeat(np.arange(len(games)), each), labels)
    judges = whole.cluster >= len(games) - max(1, round(TEST_SHARE * len(games)))
    return whole.take(~judges), whole.take(judges)
