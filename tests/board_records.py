"""Records of made-up latents of real Othello games: each fires where one square is empty, mine or theirs."""

import dataclasses

import numpy as np
from latent_records import made_words, text_record

from jaxsae.dashboard import Record
from jaxsae.lm import othello

LENGTH = 20  # moves kept up to the one that a latent fires on


def othello_record(n: int, games: int = 60, seed: int = 0, **about) -> Record:
    """Latent i tells target i % 192; its contexts are positions of that state, half as strong the further down."""
    rng = np.random.default_rng(seed)
    played = othello.full_games(games, rng)
    plain = text_record(n, made_words(60), played.moves.ravel().astype(np.int32), length=LENGTH, seed=seed)
    target = (np.arange(n) % 192).astype(np.int32)
    mine, theirs = (othello.bits(half[:, : othello.CONTEXT]).astype(bool) for half in (played.own, played.opponent))
    holds = np.concatenate([~(mine | theirs), mine, theirs], -1)  # [G, 59, 192]
    game, ply = np.zeros((2, len(plain.at)), np.int64)
    for i, latent in enumerate(plain.shown):
        own = plain.contexts(i)
        places = np.argwhere(holds[:, :, target[latent]])
        places = places if len(places) else np.array([[0, 0]])
        game[own], ply[own] = places[rng.integers(0, len(places), len(own))].T
    column = np.maximum(ply - LENGTH + 1, 0)[:, None] + np.arange(LENGTH)
    tokens = np.where(column <= ply[:, None], played.moves[game[:, None], np.minimum(column, 59)], -1)
    at = np.minimum(ply, LENGTH - 1).astype(np.int16)
    height = plain.values[np.arange(len(at)), plain.at]
    values = np.where(tokens < 0, np.nan, 0).astype(np.float32)
    values[rng.random(values.shape) < 0.1] = 0.3
    values[np.arange(len(at)), at] = height
    auroc = (0.5 + 0.5 * rng.random(n) ** 0.5).astype(np.float32)
    auroc[3::50] = np.nan
    told = {"kind": "othello", "model": "shipped", "tokenizer": "othello", "site": "resid_post.1"}
    names = {t: othello.square_name(int(s)).lower() for t, s in enumerate(othello.TOKEN_TO_SQUARE)}
    return dataclasses.replace(
        plain,
        about=plain.about | told | about,
        auroc=auroc,
        target=np.where(np.isnan(auroc), -1, target).astype(np.int32),
        sequence=game.astype(np.int32),
        position=ply.astype(np.int32),
        at=at,
        tokens=tokens.astype(np.int32),
        values=values,
        mine=played.own[game, ply],
        theirs=played.opponent[game, ply],
        words=names,
    )
