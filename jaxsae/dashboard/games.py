"""Games of Othello that nothing was trained on, as rows to search: what stands on the board comes with each."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxsae.config import check
from jaxsae.dashboard.places import Places
from jaxsae.dashboard.settings import Settings
from jaxsae.dashboard.source import OTHELLO, Source
from jaxsae.evaluate import games as play
from jaxsae.evaluate.context import Context, is_meta_sae
from jaxsae.evaluate.encoding import read_rows
from jaxsae.evaluate.subject import GameSubject
from jaxsae.lm.othello import CONTEXT

PURPOSE = 4  # games of pages, apart from those that evaluation plays


def plays_othello(metadata: Mapping[str, Any]) -> bool:
    """Whether a dictionary's activations come from Othello games; a meta-SAE's are another dictionary's rows."""
    of_games = metadata.get("tokenizer") == "othello" or metadata.get("model") == "shipped"
    return of_games and not is_meta_sae(metadata)


def games_source(context: Context, settings: Settings) -> Source:
    """Fresh games, of which the plies are read that were harvested.

    Raises:
      InputError: no such model or site, one that does not play Othello, a store.
    """
    fix = "of an Othello model games are played, with their boards: leave the flag out, and give --games"
    check(not context.config.store, "store", context.config.store, fix)
    model, positions = context.model, context.positions
    play.check_plays_othello(model)
    played = play.held_out_games(settings.games, settings.seed, PURPOSE)
    name = context.config.model or context.dictionary.metadata["model"]
    subject = GameSubject(name, model, played, positions, context.config.games_per_batch)
    shape = (len(played), CONTEXT)
    sequence, position = (np.broadcast_to(a, shape).ravel().astype(np.int32) for a in np.ogrid[: shape[0], : shape[1]])
    harvested = (position >= positions.start) & (position < positions.stop)
    mine, theirs = (masks[:, :CONTEXT].ravel() for masks in (played.own, played.opponent))
    boards = np.stack([mine, theirs], 1)[harvested]
    _, alike = np.unique(boards, axis=0, return_inverse=True)  # early positions come up in many games
    moves = played.moves[:, :CONTEXT].ravel().astype(np.int32)
    more = {"alike": alike.ravel().astype(np.int32), "mine": mine, "theirs": theirs}
    about = {"games": len(played), "positions": [positions.start, positions.stop - 1], "held_out": True}

    def batches() -> Iterator[np.ndarray]:
        for batch in subject.batches():
            yield read_rows(context, subject, batch)

    return Source(OTHELLO, Places.of(moves, sequence, position, harvested, **more), "othello", batches, about)
