"""Games as labelled contexts: moves that people write, and properties that follow from the game itself."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxsae.errors import InputError
from jaxsae.evaluate.subject import Batch
from jaxsae.lm import othello
from jaxsae.lm.othello import COLUMNS, CONTEXT, MOVES, SQUARE_TO_TOKEN, TOKEN_TO_SQUARE, Games, bits, square_of

_START = 1 << 28 | 1 << 35, 1 << 27 | 1 << 36  # black's discs and white's
BY_POSITION, BY_GAME = ("mine", "theirs", "empty", "flipped", "column", "row"), ("taken", "won")


def moves_of(names: Any, where: str) -> np.ndarray:
    """int32 [moves] tokens of a game from its start, such as ["C4", "C3"]; who cannot move passes, which is no move.

    Raises:
      InputError: no squares, or a move that is not legal there.
    """
    if not isinstance(names, list) or not 1 <= len(names) <= MOVES or not all(isinstance(name, str) for name in names):
        raise InputError(
            f'{where}: \'moves\' must be a list of 1 to {MOVES} squares such as ["C4", "C3"], got {names!r}.'
        )
    own, opponent = (np.array([discs], np.uint64) for discs in _START)
    tokens = []
    for ply, name in enumerate(names, 1):
        at = square_of(name.strip())
        if at is None:
            raise InputError(f"{where}: move {ply}, {name!r}, is no square from A1 to H8.")
        if not othello.legal_moves(own, opponent).any():
            own, opponent = opponent, own
        move = np.array([1 << at], np.uint64)
        if not (othello.legal_moves(own, opponent) & move).any():
            raise InputError(f"{where}: move {ply}, {name}, is not legal there.")
        turned = othello.flipped(move, own, opponent)
        own, opponent = opponent & ~turned, own | move | turned
        tokens.append(int(SQUARE_TO_TOKEN[at]))
    return np.array(tokens, np.int32)


def batches_of(games: Sequence[np.ndarray], positions: slice, size: int) -> Iterator[tuple[slice, Batch]]:
    """(which, their batch) of games that begin at the start; kept are `positions`, as far as each game goes."""
    at = np.arange(CONTEXT)
    for start in range(0, len(games), size):
        some = games[start : start + size]
        tokens, kept = np.zeros((len(some), CONTEXT), np.int32), np.zeros((len(some), CONTEXT), bool)
        for row, moves in enumerate(some):
            moves = moves[:CONTEXT]
            tokens[row, : len(moves)] = moves
            kept[row] = (at >= positions.start) & (at < min(positions.stop, len(moves)))
        yield slice(start, start + len(some)), Batch(tokens, kept, np.zeros_like(kept), tokens)


def parse_task(task: str) -> tuple[str, int | str]:
    """What a task asks and of what: squares, columns and rows as numbers.

    Raises:
      InputError: there is no such task.
    """
    kind, _, of = task.partition(":")
    try:
        if kind in ("mine", "theirs", "empty", "taken") and (square := square_of(of)) is not None:
            return kind, square
        if kind == "flipped" and int(of) >= 1:
            return kind, int(of)
        if kind == "column" and len(of) == 1:
            return kind, COLUMNS.index(of.upper())
        if kind == "row" and of in "12345678" and len(of) == 1:
            return kind, int(of) - 1
        if kind == "won" and of in ("black", "white"):
            return kind, of
    except ValueError:
        pass
    raise InputError(
        f"--probing_tasks={task}: give some of mine:D3, theirs:D3, empty:D3, taken:D3 (squares A1 to H8), flipped:3, "
        "column:D, row:4, won:black, won:white"
    )


def labels_of(task: str, games: Games, positions: slice) -> np.ndarray:
    """bool [G, P] of a task by position, [G] of one by game."""
    kind, of = parse_task(task)
    own, opponent = games.own[:, positions], games.opponent[:, positions]
    if kind in ("mine", "theirs", "empty"):
        masks = {"mine": own, "theirs": opponent, "empty": ~(own | opponent)}[kind]
        return bits(masks)[..., of].astype(bool)
    if kind == "flipped":
        return turned(games)[:, positions] >= of
    if kind in ("column", "row"):
        at = TOKEN_TO_SQUARE[games.moves[:, positions]]
        return (at % 8 if kind == "column" else at // 8) == of
    if kind == "taken":
        return bits(own[:, -1] | opponent[:, -1])[:, of].astype(bool)
    black, white = (discs[:, -1] for discs in by_colour(games))
    return black > white if of == "black" else white > black


def by_colour(games: Games) -> tuple[np.ndarray, np.ndarray]:
    """int [G, 60]: discs of black and of white after each move."""
    own, opponent = (np.bitwise_count(discs).astype(int) for discs in (games.own, games.opponent))
    return np.where(games.black_next, own, opponent), np.where(games.black_next, opponent, own)


def turned(games: Games) -> np.ndarray:
    """int [G, 60]: discs that each move turned over, what the other side lost."""
    gains = [np.diff(discs, axis=1, prepend=2) for discs in by_colour(games)]
    return -np.minimum(*gains)
