"""What makes a latent fire: the places of held-out data where it is strongest."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from jaxsae.dictionary import Dictionary
from jaxsae.evaluate import games as play
from jaxsae.evaluate.context import Context
from jaxsae.lm.othello import Games, bits
from jaxsae.store import Store

BEFORE, AFTER = 12, 4  # tokens shown around the one that a latent fires on
BATCH = 4096
GAMES_PURPOSE = 4  # a set of games of its own, apart from those that evaluation plays


@dataclasses.dataclass(frozen=True)
class Place:
    """One activation of a latent in a sequence of tokens.

    Attributes:
      activation: the latent's value. sequence, position: where. tokens: ids around it. at: which of `tokens` it is.
    """

    activation: float
    sequence: int
    position: int
    tokens: list[int]
    at: int


@dataclasses.dataclass(frozen=True)
class BoardPlace:
    """One activation of a latent in a game: the position as the player to move sees it.

    Attributes:
      activation: the latent's value. moves: tokens up to and with the last move. mine, theirs: bool [64].
    """

    activation: float
    moves: list[int]
    mine: np.ndarray
    theirs: np.ndarray


@dataclasses.dataclass(frozen=True)
class Hits:
    """Activations above 0 of some latents: latent, value and row, each [H]."""

    latent: np.ndarray
    value: np.ndarray
    row: np.ndarray

    def strongest(self, latent: int, sequence: np.ndarray, count: int) -> list[tuple[int, float]]:
        """(row, value) of the `count` largest, at most one of a sequence; `sequence` [H] goes with the hits."""
        own = np.flatnonzero(self.latent == latent)
        own = own[np.argsort(-self.value[own], kind="stable")]
        _, first = np.unique(sequence[own], return_index=True)
        return [(int(self.row[i]), float(self.value[i])) for i in own[np.sort(first)][:count]]


def find_hits(dictionary: Dictionary, batches: Iterator[tuple[int, np.ndarray]], latents: Sequence[int]) -> Hits:
    """Where `latents` fire in batches of (first row, activations [B, d])."""
    parts: list[tuple[np.ndarray, ...]] = []
    for first, x_BxD in batches:
        found = dictionary.encode(x_BxD.astype(np.float32))
        values, indices = np.asarray(found.values), np.asarray(found.indices)
        row, slot = np.nonzero(np.isin(indices, latents) & (values != 0))
        parts.append((indices[row, slot], values[row, slot], row + first))
    return Hits(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def top_contexts(
    dictionary: Dictionary,
    store: Store,
    latents: Sequence[int],
    per_latent: int,
    rows: Sequence[tuple[int, int]],
) -> dict[int, list[Place]]:
    """The strongest activations of some latents in a store, with the tokens around them.

    Args:
      dictionary: its metadata's `site` is read. store: where the rows are.
      latents: whose. per_latent: how many of each, at most one of a sequence. rows: ranges to look through.

    Returns:
      {latent: places, strongest first}.

    Raises:
      InputError: the store lacks the site or the rows.
    """
    site = dictionary.metadata.get("site") or store.sites[0]
    hits = find_hits(dictionary, _store_batches(store, site, rows), latents)
    sequence = np.empty(len(hits.row), np.int64)
    for start, stop in rows:
        inside = (hits.row >= start) & (hits.row < stop)
        sequence[inside] = store.column("sequence", start, stop)[hits.row[inside] - start]
    return {
        latent: [_place(store, row, value, rows) for row, value in hits.strongest(latent, sequence, per_latent)]
        for latent in latents
    }


def _store_batches(store: Store, site: str, rows: Sequence[tuple[int, int]]) -> Iterator[tuple[int, np.ndarray]]:
    for start, stop in rows:
        for first in range(start, stop, BATCH):
            yield first, store.read(site, first, min(first + BATCH, stop))


def _place(store: Store, row: int, value: float, rows: Sequence[tuple[int, int]]) -> Place:
    start, stop = next(r for r in rows if r[0] <= row < r[1])
    first, last = max(start, row - BEFORE), min(stop, row + AFTER + 1)
    tokens, sequence, position = (store.column(name, first, last) for name in ("tokens", "sequence", "position"))
    at = row - first
    # Rows of the same sequence, and of the unbroken run of positions around this one.
    same = (sequence == sequence[at]) & (position - position[at] == np.arange(len(tokens)) - at)
    return Place(value, int(sequence[at]), int(position[at]), tokens[same].tolist(), int(same[:at].sum()))


def live_latents(dictionary: Dictionary, x_BxD: np.ndarray) -> np.ndarray:
    """Latents that are active on some row, ascending."""
    found = dictionary.encode(x_BxD.astype(np.float32))
    return np.unique(np.asarray(found.indices)[np.asarray(found.values) != 0])


def othello_contexts(
    context: Context, count: int, choose: Callable[[np.ndarray], list[int]], per_latent: int
) -> dict[int, list[BoardPlace]]:
    """The strongest positions of some latents in games that nothing was trained on.

    Args:
      context: names the dictionary, its model, site and positions. count: games to play.
      choose: live latents -> those to look at. per_latent: different positions of each, at most one of a game.

    Returns:
      {latent: places, strongest first}.

    Raises:
      InputError: no such model or site, or one that does not play Othello.
    """
    play.check_plays_othello(context.model)
    games = play.held_out_games(count, context.config.seed, GAMES_PURPOSE)
    x = play.activations(context.model, context.site, games, context.positions, context.config.games_per_batch)
    pieces = [(first, x[first : first + BATCH]) for first in range(0, len(x), BATCH)]
    live = np.unique(np.concatenate([live_latents(context.dictionary, piece) for _, piece in pieces]))
    latents = choose(live)
    hits = find_hits(context.dictionary, iter(pieces), latents)
    length = context.positions.stop - context.positions.start
    game = hits.row // length
    out: dict[int, list[BoardPlace]] = {}
    for latent in latents:
        places: dict[bytes, BoardPlace] = {}  # by position: early ones come up in many games
        for row, value in hits.strongest(latent, game, count):
            place = _board_place(games, row // length, context.positions.start + row % length, value)
            places.setdefault(np.stack([place.mine, place.theirs]).tobytes(), place)
            if len(places) == per_latent:
                break
        out[latent] = list(places.values())
    return out


def _board_place(games: Games, game: int, ply: int, value: float) -> BoardPlace:
    mine, theirs = (bits(masks[game, ply : ply + 1])[0].astype(bool) for masks in (games.own, games.opponent))
    return BoardPlace(value, games.moves[game, : ply + 1].tolist(), mine, theirs)
