"""Pairs of contexts that differ in little: from a file, or held-out ones whose last token or move was changed for another."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxsae.errors import InputError
from jaxsae.evaluate.causal.contexts import Contexts, game_batches
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.effects import cut
from jaxsae.evaluate.splice_figures import log_softmax
from jaxsae.evaluate.subject import Batch, GameSubject, Subject, TextSubject
from jaxsae.lm.othello import CONTEXT, SQUARE_TO_TOKEN, U64, bits, flipped, legal_moves, square_of
from jaxsae.progress import say

SIDES = "a", "b"
_KEY = 0xABBA


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Contexts `a` and `b`, in pairs; `given`: whether they are a file's."""

    a: Contexts
    b: Contexts
    given: bool


def read_file(path: str, games: bool) -> list[tuple[Any, Any]]:
    """(a, b) of each line that is not empty: texts, or of `games` lists of tokens.

    Raises:
      InputError: no such file, or a line that is no such pair; it is named.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--causal_pairs={path}: cannot be read ({error}). Give a JSONL file of pairs.") from None
    out = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            out.append(_pair(line, f"--causal_pairs={path}, line {number}", games))
    if not out:
        raise InputError(f"--causal_pairs={path}: holds no pairs. {_wanted(games)}")
    return out


def _wanted(games: bool) -> str:
    each = '{"a": ["D3", "C3"], "b": ["D3", "C5"]}' if games else '{"a": "The boy", "b": "The girl"}'
    return f"Give lines such as {each}."


def _pair(line: str, where: str, games: bool) -> tuple[Any, Any]:
    try:
        pair = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: is no JSON ({error.msg}). {_wanted(games)}") from None
    kind = list if games else str
    if not isinstance(pair, dict) or not all(isinstance(pair.get(side), kind) for side in SIDES):
        raise InputError(
            f'{where}: has no "a" and "b" that are {"lists of moves" if games else "texts"}. {_wanted(games)}'
        )
    found = [
        _moves(pair[side], f'{where}, "{side}"') if games else _text(pair[side], f'{where}, "{side}"') for side in SIDES
    ]
    if found[0] == found[1]:
        raise InputError(f'{where}: "a" and "b" are equal, so that nothing can differ. Change one.')
    return found[0], found[1]


def _text(text: str, where: str) -> str:
    if not text.strip():
        raise InputError(f"{where}: is empty. Give a text of one token or more.")
    return text


def _moves(moves: list[Any], where: str) -> list[int]:
    """Tokens of moves that are legal one after the other."""
    if not 1 <= len(moves) <= CONTEXT:
        raise InputError(f"{where}: has {len(moves)} moves. Give 1 to {CONTEXT}.")
    own, other, tokens = U64(1 << 28 | 1 << 35), U64(1 << 27 | 1 << 36), []
    for number, word in enumerate(moves, 1):
        square = square_of(word.strip()) if isinstance(word, str) else None
        if square is None:
            raise InputError(f"{where}, move {number}: {word!r} is no square. Give A1 to H8, a letter and a digit.")
        boards = np.array([own]), np.array([other])
        if not legal_moves(*boards)[0]:  # a pass, which is no move
            boards = boards[::-1]
        move = np.array([U64(1) << U64(square)])
        if not (legal_moves(*boards) & move)[0]:
            raise InputError(f"{where}, move {number}: {word} is not legal there. Give games by the rules.")
        turned = flipped(move, *boards)
        own, other = (boards[1] & ~turned)[0], (boards[0] | move | turned)[0]
        tokens.append(int(SQUARE_TO_TOKEN[square]))
    return tokens


def open_pairs(context: Context, subject: Subject) -> Pairs | None:
    """The pairs of --causal_pairs, or made ones; None where the held-out sequences have none.

    Raises:
      InputError: a text without tokens, or two of the same tokens.
    """
    path = context.config.causal.causal_pairs
    if path:
        sides = _of_file(subject, read_file(path, subject.games), path)
    else:
        rng = np.random.default_rng([context.config.seed, _KEY])
        count = min(context.config.causal.causal_pair_count, subject.sequences)
        made = _other_moves if isinstance(subject, GameSubject) else _other_tokens
        sides = made(subject, count, rng)
    if not sides[0]:
        say("causal: no pairs can be made of these sequences")
        return None
    return Pairs(*(Contexts.of(context, subject, side) for side in sides), given=bool(path))


def _of_file(subject: Subject, pairs: list[tuple[Any, Any]], path: str) -> list[list[Batch]]:
    if isinstance(subject, GameSubject):
        out = []
        for side in (0, 1):
            moves, last = np.zeros((len(pairs), CONTEXT), np.int32), np.zeros(len(pairs), int)
            for row, pair in enumerate(pairs):
                moves[row, : len(pair[side])], last[row] = pair[side], len(pair[side]) - 1
            out.append(game_batches(moves, last, subject.size)[0])
        return out
    assert isinstance(subject, TextSubject)
    ids = [subject.encoded([pair[side] for pair in pairs]) for side in (0, 1)]
    for number, (a, b) in enumerate(zip(*ids, strict=True), 1):
        where = f"--causal_pairs={path}, pair {number}"
        if not len(a) or not len(b):
            raise InputError(f"{where}: a text has no tokens. Give other text.")
        if np.array_equal(a, b):
            raise InputError(
                f"{where}: both texts are the same {len(a)} tokens, cut to the model's context. Shorten them."
            )
    return [[_last_kept(batch) for _, batch in subject.batches_of(side)] for side in ids]


def _last_kept(batch: Batch) -> Batch:
    at, length = np.arange(batch.kept.shape[1]), batch.kept.shape[1]
    last = length - 1 - batch.kept[:, ::-1].argmax(1)
    kept = at == last[:, None]
    return Batch(batch.tokens, kept, kept, np.zeros_like(batch.targets))


def _other_moves(subject: GameSubject, count: int, rng: np.random.Generator) -> list[list[Batch]]:
    """Of each game the moves up to one at random, and the same with another legal one in its place."""
    games, rows = subject.played[:count], []
    for row in range(len(games)):
        plies = np.arange(max(subject.positions.start, 1), min(subject.positions.stop, CONTEXT))
        choices = np.bitwise_count(games.legal[row, plies - 1])
        plies = plies[choices > 1]
        if not len(plies):
            continue
        ply = int(rng.choice(plies))
        legal = SQUARE_TO_TOKEN[np.flatnonzero(bits(games.legal[row, ply - 1]))]
        rows.append((row, ply, int(rng.choice(legal[legal != games.moves[row, ply]]))))
    if not rows:
        return [[], []]
    row, ply, other = map(np.array, zip(*rows, strict=True))
    moves = games.moves[row].astype(np.int32)
    moves[np.arange(moves.shape[1]) > ply[:, None]] = 0  # what comes later is not read, and is the same of both
    changed = moves.copy()
    changed[np.arange(len(row)), ply] = other
    return [game_batches(side, ply, subject.size)[0] for side in (moves, changed)]


def _other_tokens(subject: TextSubject, count: int, rng: np.random.Generator) -> list[list[Batch]]:
    """Of each sequence the tokens up to one at random, and the same with another in its place, as the model would draw it."""
    sides: list[list[Batch]] = [[], []]
    special, done = list(subject.text.tokenizer.special), 0
    for whole in subject.batches():
        batch = cut(whole, count - done)
        if not len(batch.tokens):
            break
        done += len(batch.tokens)
        able = batch.kept.copy()
        able[:, 0] = False
        able[:, 1:] &= batch.kept[:, :-1]
        rows = able.any(1)
        batch, able = Batch(batch.tokens[rows], *(part[rows] for part in (batch.kept,) * 3)), able[rows]
        if not rows.any():
            continue
        last = np.where(able, rng.random(able.shape), -1).argmax(1)
        at, row = np.arange(able.shape[1]), np.arange(len(able))
        before = subject.logits(batch, at == last[:, None] - 1)
        tokens = np.where(at > last[:, None], -1, batch.tokens).astype(np.int32)
        chances = np.exp(log_softmax(before))
        chances[row, tokens[row, last]] = 0
        chances[:, [token for token in special if token < chances.shape[1]]] = 0
        other = (chances / chances.sum(1, keepdims=True)).cumsum(1) > rng.random(len(row))[:, None]
        changed, kept = tokens.copy(), at == last[:, None]
        changed[row, last] = other.argmax(1)
        for side, ids in zip(sides, (tokens, changed), strict=True):
            side.append(Batch(ids, kept, kept, np.zeros_like(ids)))
    return sides
