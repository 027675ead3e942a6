"""Random legal Othello games, vectorised over games on 64-bit boards.

A board is a pair of uint64 masks; bit 8 * row + column is a square. The sixty tokens are all squares
but the four centre ones. A game is sixty moves; a player without a legal move passes, which costs no
token: the other player simply moves again. When neither can move the game is over, and a game that
ends before its sixtieth move is short.
"""

import dataclasses
import re
from collections.abc import Iterator

import numpy as np

U64 = np.uint64
MOVES = 60  # in a full game, and the number of tokens
CONTEXT = 59  # positions a model reads: the sixtieth move has nothing after it
CENTRE = (27, 28, 35, 36)
COLUMNS = "ABCDEFGH"
TOKEN_TO_SQUARE = np.array([s for s in range(64) if s not in CENTRE])
SQUARE_TO_TOKEN = np.full(64, -1, np.int8)
SQUARE_TO_TOKEN[TOKEN_TO_SQUARE] = np.arange(MOVES)

_BLACK_START = U64(1 << 28 | 1 << 35)
_WHITE_START = U64(1 << 27 | 1 << 36)
_ALL = U64(0xFFFFFFFFFFFFFFFF)
_NOT_COLUMN_0 = U64(0xFEFEFEFEFEFEFEFE)  # what a step to the right may reach
_NOT_COLUMN_7 = U64(0x7F7F7F7F7F7F7F7F)
_DIRECTIONS = (
    (1, _NOT_COLUMN_0),
    (-1, _NOT_COLUMN_7),
    (8, _ALL),
    (-8, _ALL),
    (9, _NOT_COLUMN_0),
    (-9, _NOT_COLUMN_7),
    (7, _NOT_COLUMN_7),
    (-7, _NOT_COLUMN_0),
)


@dataclasses.dataclass(frozen=True)
class Games:
    """G full games and the position after each move, seen by the player who moves next.

    Attributes:
      moves: int8 [G, 60], tokens.
      own, opponent: uint64 [G, 60], discs of the player to move next, and of the other.
      legal: uint64 [G, 60], squares that player may move to; 0 after the last move.
      black_next: bool [G, 60], whether that player is black.
    """

    moves: np.ndarray
    own: np.ndarray
    opponent: np.ndarray
    legal: np.ndarray
    black_next: np.ndarray

    def __len__(self) -> int:
        return len(self.moves)

    def __getitem__(self, rows: slice) -> "Games":
        return Games(*(getattr(self, f.name)[rows] for f in dataclasses.fields(self)))

    def legal_tokens(self) -> np.ndarray:
        """uint8 [G, 59, 60]: 1 where the token is a legal next move at that position."""
        return bits(self.legal[:, :CONTEXT])[..., TOKEN_TO_SQUARE]


def square_name(square: int) -> str:
    """0 -> A1, 63 -> H8: column letter, row number from the top."""
    return f"{COLUMNS[square % 8]}{square // 8 + 1}"


def square_of(name: str) -> int | None:
    """0 to 63 of a name such as D3 or d3, None where it is none."""
    found = re.fullmatch(r"([A-Ha-h])([1-8])", name)
    return COLUMNS.index(found[1].upper()) + 8 * (int(found[2]) - 1) if found else None


def bits(masks: np.ndarray) -> np.ndarray:
    """uint64 [...] -> uint8 [..., 64], square by square."""
    as_bytes = np.ascontiguousarray(masks).astype("<u8").view(np.uint8)
    return np.unpackbits(as_bytes.reshape(*masks.shape, 8), axis=-1, bitorder="little")


def _step(mask: np.ndarray, shift: int, inside: np.uint64) -> np.ndarray:
    return ((mask << U64(shift)) if shift > 0 else (mask >> U64(-shift))) & inside


def _runs(start: np.ndarray, through: np.ndarray, shift: int, inside: np.uint64) -> np.ndarray:
    """Unbroken runs of `through` (at most six discs) that begin beside `start` in one direction."""
    run = _step(start, shift, inside) & through
    for _ in range(5):
        run |= _step(run, shift, inside) & through
    return run


def legal_moves(own: np.ndarray, opponent: np.ndarray) -> np.ndarray:
    """uint64 [G] masks of the squares where the owner of `own` may move."""
    empty, out = ~(own | opponent), np.zeros_like(own)
    for shift, inside in _DIRECTIONS:
        out |= _step(_runs(own, opponent, shift, inside), shift, inside) & empty
    return out


def flipped(move: np.ndarray, own: np.ndarray, opponent: np.ndarray) -> np.ndarray:
    """uint64 [G] masks of the discs that turn over when `move` (one bit) is played."""
    out = np.zeros_like(own)
    for shift, inside in _DIRECTIONS:
        run = _runs(move, opponent, shift, inside)
        closed = (_step(run, shift, inside) & own) != 0
        out |= np.where(closed, run, U64(0))
    return out


def advance(
    own: np.ndarray, opponent: np.ndarray, move: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Plays `move` (one bit each).

    Returns:
      own, opponent, legal: uint64 [G], of the player who moves next; legal is 0 where the game is over.
      again: int, the games in which that is the same player, since the other has no move: a pass costs no token.
    """
    turned = flipped(move, own, opponent)
    own, opponent = opponent & ~turned, own | move | turned
    legal = legal_moves(own, opponent)
    # If the side that would get the turn back cannot move either, legal stays 0.
    stuck = np.flatnonzero(legal == 0)
    other = legal_moves(opponent[stuck], own[stuck])
    again, other = stuck[other != 0], other[other != 0]
    own[again], opponent[again] = opponent[again], own[again]
    legal[again] = other
    return own, opponent, legal, again


def _nth_bit(masks: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Index of the n-th set bit of each mask (from 0), by bisection on population counts."""
    index, rest, n = np.zeros_like(masks), masks, n.astype(U64)
    for width in (32, 16, 8, 4, 2, 1):
        low = rest & U64((1 << width) - 1)
        count = np.bitwise_count(low).astype(U64)
        upper = n >= count
        n = np.where(upper, n - count, n)
        index = index + np.where(upper, U64(width), U64(0))
        rest = np.where(upper, rest >> U64(width), low)
    return index


def play(count: int, rng: np.random.Generator) -> Games:
    """Plays `count` games of uniformly random legal moves and keeps those of full length.

    Returns:
      `Games` of G <= count games.
    """
    own, opponent = np.full(count, _BLACK_START), np.full(count, _WHITE_START)
    alive, black = np.ones(count, bool), np.ones(count, bool)
    moves = np.full((count, MOVES), -1, np.int8)
    states = np.zeros((3, count, MOVES), U64)
    black_next = np.zeros((count, MOVES), bool)
    legal = legal_moves(own, opponent)
    for ply in range(MOVES):
        choices = np.bitwise_count(legal)
        alive &= choices > 0
        pick = np.minimum((rng.random(count) * choices).astype(np.uint8), np.maximum(choices, 1) - 1)
        square = np.minimum(_nth_bit(legal, pick), U64(63))
        move = np.where(alive, U64(1) << square, U64(0))
        moves[:, ply] = np.where(alive, SQUARE_TO_TOKEN[square.astype(np.int64)], -1)
        own, opponent, legal, again = advance(own, opponent, move)
        black = ~black
        black[again] = ~black[again]
        states[:, :, ply], black_next[:, ply] = (own, opponent, legal), black
    full = moves[:, -1] >= 0
    return Games(moves[full], *states[:, full], black_next[full])


def stream(batch_size: int, seed: int, first: int = 0, block: int = 32) -> Iterator[Games]:
    """Batches of full games without end, a pure function of (batch_size, seed, block, index).

    Games are played `block` batches at a time, since numpy's cost is by the call.
    """
    index = first
    while True:
        number, offset = divmod(index, block)
        games = full_games(batch_size * block, np.random.default_rng([seed, number]))
        for i in range(offset, block):
            yield games[i * batch_size : (i + 1) * batch_size]
        index = (number + 1) * block


def full_games(count: int, rng: np.random.Generator) -> Games:
    """Exactly `count` games of full length."""
    parts: list[Games] = []
    while (missing := count - sum(map(len, parts))) > 0:
        parts.append(play(int(missing * 1.05) + 8, rng))
    names = [f.name for f in dataclasses.fields(Games)]
    return Games(*(np.concatenate([getattr(p, n) for p in parts])[:count] for n in names))


def loss_floor(legal_tokens: np.ndarray) -> float:
    """Best possible cross-entropy in nats a move: the mean log number of legal moves."""
    return float(np.log(legal_tokens.sum(-1, dtype=np.float64)).mean())
