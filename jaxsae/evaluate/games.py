"""Othello games that nothing was trained on, and what a model makes of them."""

from collections.abc import Iterator
from functools import partial

import jax
import numpy as np
from flax import nnx

from jaxsae.errors import InputError
from jaxsae.lm import othello
from jaxsae.lm.gpt import GPT
from jaxsae.lm.othello import CONTEXT, Games

_GAMES_KEY = 0x0E7A  # apart from the games of harvests and of the training of the GPT
SPLICE, BOARD, PROBE = 1, 2, 3  # what games are for: each has its own (4: pages)
SUBJECT, FITTED, PROBED, PARENTS, PLAYED = 5, 6, 7, 8, 9


def held_out_games(count: int, seed: int, purpose: int) -> Games:
    """`count` full games that no harvest and no training of a GPT plays."""
    return othello.full_games(count, np.random.default_rng([seed, purpose, _GAMES_KEY]))


def check_plays_othello(model: GPT) -> None:
    """Raises `InputError` unless `model` reads and predicts moves."""
    if model.config.vocabulary != othello.MOVES or model.config.context < CONTEXT:
        raise InputError(
            f"--model: its vocabulary is {model.config.vocabulary} and its context {model.config.context}; this suite "
            f"needs an Othello model, of {othello.MOVES} moves and {CONTEXT} positions"
        )


def batches(games: Games, size: int) -> Iterator[tuple[slice, np.ndarray]]:
    """(games, their moves int32 [size, 59]) batch by batch; the last is padded with moves 0, to compile once."""
    for start in range(0, len(games), size):
        moves = games.moves[start : start + size, :CONTEXT].astype(np.int32)
        yield slice(start, start + len(moves)), np.pad(moves, ((0, size - len(moves)), (0, 0)))


def activations(model: GPT, site: str, games: Games, positions: slice, size: int) -> np.ndarray:
    """Activations float32 [G * P, d_model] at `site` and `positions`, game after game."""
    parts = []
    for rows, moves in batches(games, size):
        x_BxTxD = np.asarray(read(model, moves, site)[1], np.float32)
        parts.append(x_BxTxD[: rows.stop - rows.start, positions])
    return np.concatenate(parts).reshape(-1, model.config.d_model)


@partial(nnx.jit, static_argnames="site")
def read(model: GPT, tokens_BxT: jax.Array, site: str) -> tuple[jax.Array, jax.Array]:
    """Logits [B, T, vocabulary] and the activations [B, T, d_model] of a site."""
    logits, found = model(tokens_BxT, read=(site,))
    return logits, found[site]


@partial(nnx.jit, static_argnames="site")
def spliced(model: GPT, tokens_BxT: jax.Array, x_BxTxD: jax.Array, site: str) -> jax.Array:
    """Logits [B, T, vocabulary] with `x_BxTxD` in place of a site's activations."""
    return model(tokens_BxT, replace={site: lambda _: x_BxTxD})[0]
