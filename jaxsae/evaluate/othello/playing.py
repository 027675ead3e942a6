"""Games that a model plays to the end, with something else in place of its activations at one site: which moves stay legal.

From openings of random legal moves the model plays both sides, by its most likely move or by moves drawn from what it
predicts. Where its move is illegal it is counted, and the most likely legal one played instead, so that later ones are seen,
too. All ways of playing have the same openings and the same draws.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from threadpoolctl import threadpool_limits

from jaxsae.evaluate.intervals import of_share
from jaxsae.evaluate.splice_figures import interval
from jaxsae.lm.gpt import GPT
from jaxsae.lm.gpt_step import empty_cache, read_step, step
from jaxsae.lm.othello import CONTEXT, MOVES, TOKEN_TO_SQUARE, U64, Games, advance, bits

ORIGINAL = "original"
StandIn = Callable[[np.ndarray], np.ndarray]  # of activations [B, d] of one position; None: the model as it is
Logits = Callable[[np.ndarray, int], np.ndarray]  # of the tokens [B] played at a ply those of the next [B, 60]


@dataclasses.dataclass(frozen=True)
class Played:
    """Moves of G games, from the first after the opening.

    Attributes:
      asked, legal: bool [G, 60 - opening]: whether a move was asked for, the game not being over, and was legal.
    """

    asked: np.ndarray
    legal: np.ndarray

    def __getitem__(self, rows: slice) -> "Played":
        return Played(self.asked[rows], self.legal[rows])

    @property
    def until(self) -> np.ndarray:
        """int [G]: moves before the first illegal one; of games without one all."""
        wrong = self.asked & ~self.legal
        return np.where(wrong.any(1), wrong.argmax(1), self.asked.sum(1))

    @property
    def whole(self) -> np.ndarray:
        """bool [G]: games without an illegal move."""
        return ~(self.asked & ~self.legal).any(1)


def reader(model: GPT, batch: int, site: str, stand_in: StandIn | None) -> Logits:
    """The model reading `batch` games move by move, from their first."""
    cache = empty_cache(model, batch)

    def logits(tokens_B: np.ndarray, ply: int) -> np.ndarray:
        nonlocal cache
        tokens, at, swap = jnp.asarray(tokens_B, jnp.int32), jnp.int32(ply), {}
        if stand_in:
            x = np.asarray(read_step(model, cache, tokens, at, site))
            swap[site] = jnp.asarray(stand_in(x), jnp.float32)
        found, cache = step(model, cache, tokens, at, swap)
        return np.asarray(found)

    return logits


def played(logits: Logits, games: Games, opening: int, noise: np.ndarray) -> Played:
    """Plays on from the first `opening` moves of some games.

    Args:
      noise: [G, 60 - opening, 60], added to logits: 0 for the most likely move, Gumbel's for draws.
    """
    count, last = len(games), opening - 1
    own, opponent, legal = (masks[:, last].copy() for masks in (games.own, games.opponent, games.legal))
    for ply in range(opening):
        scores = logits(games.moves[:, ply], ply)
    asked, right = np.zeros((2, count, MOVES - opening), bool)
    game = np.arange(count)
    for ply in range(opening, MOVES):
        may = bits(legal)[:, TOKEN_TO_SQUARE].astype(bool)
        wanted = scores + noise[:, ply - opening]
        move, alive = wanted.argmax(1), legal != 0
        fits = may[game, move]
        asked[:, ply - opening], right[:, ply - opening] = alive, alive & fits
        move = np.where(fits, move, np.where(may, wanted, -np.inf).argmax(1))
        square = np.where(alive, U64(1) << TOKEN_TO_SQUARE[move].astype(U64), U64(0))
        own, opponent, legal, _ = advance(own, opponent, square)
        if ply < CONTEXT and legal.any():
            scores = logits(move, ply)
    return Played(asked, right)


def figures(found: Played, original: Played) -> dict[str, Any]:
    """How long games stay legal, with intervals over them, beside those that the model plays as it is."""
    until, moves = found.until, found.asked.sum(1)
    lost = original.until - until
    survivors = [float(((until > p) | found.whole).mean()) for p in range(found.asked.shape[1])]
    return {
        "until": float(until.mean()),
        "until_interval": interval(until),
        "until_median": float(np.median(until)),
        "until_quartiles": [float(np.quantile(until, q)) for q in (0.25, 0.75)],
        "fewer_than_original": float(lost.mean()),
        "fewer_interval": interval(lost),
        "whole": float(found.whole.mean()),
        "whole_interval": of_share(int(found.whole.sum()), len(until)),
        "legal": float(found.legal.sum() / moves.sum()),
        "legal_interval": interval(found.legal.sum(1), moves),
        "still_legal": survivors,
        "until_of_games": until,
    }


def play_all(
    model: GPT,
    site: str,
    stand_ins: Mapping[str, StandIn | None],
    games: Games,
    opening: int,
    seed: int,
    done: Callable,
) -> dict[str, Any]:
    """Figures {way of choosing: {stand-in: figures}} of games with each stand-in; the model as it is stands in as None.

    Args:
      games: whose openings are played on. done: called after each stand-in.
    """
    rng = np.random.default_rng([seed, opening])
    draws = rng.gumbel(size=(len(games), MOVES - opening, MOVES))
    both = Games(*(np.concatenate([a, a]) for a in vars(games).values()))  # both ways of choosing in one batch
    noise = np.concatenate([np.zeros_like(draws), draws])
    runs = {}
    with threadpool_limits(1, user_api="blas"):  # products of few rows
        for name, stand_in in {ORIGINAL: None, **stand_ins}.items():
            runs[name] = played(reader(model, len(both), site, stand_in), both, opening, noise)
            done()
    out: dict[str, Any] = {"games": len(games), "opening": opening, "moves": MOVES - opening}
    for way, rows in (("top1", slice(0, len(games))), ("sampled", slice(len(games), None))):
        out[way] = {name: figures(found[rows], runs[ORIGINAL][rows]) for name, found in runs.items()}
    return out
