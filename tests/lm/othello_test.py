"""Othello games against a plain board, square by square."""

import itertools

import numpy as np
import pytest

from jaxsae.lm import othello

STEPS = [(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if (r, c) != (0, 0)]
BLACK, WHITE = "black", "white"


class Board:
    """{(row, column): colour}; slow and plain."""

    def __init__(self):
        self.discs = {(3, 3): WHITE, (4, 4): WHITE, (3, 4): BLACK, (4, 3): BLACK}
        self.player = BLACK

    def other(self):
        return WHITE if self.player == BLACK else BLACK

    def turned(self, square):
        """The discs that a move of the player to `square` turns over."""
        out = []
        for step in STEPS if square not in self.discs else ():
            line, at = [], square
            while True:
                at = (at[0] + step[0], at[1] + step[1])
                if self.discs.get(at) != self.other():
                    break
                line.append(at)
            if self.discs.get(at) == self.player:
                out += line
        return out

    def legal(self):
        return {s for s in itertools.product(range(8), range(8)) if self.turned(s)}

    def move(self, square):
        """Plays; the turn passes to whoever can move, the opponent first."""
        for at in self.turned(square):
            self.discs[at] = self.player
        self.discs[square] = self.player
        self.player = self.other()
        if not self.legal():
            self.player = self.other()


def squares(mask):
    return {divmod(i, 8) for i in np.flatnonzero(othello.bits(mask))}


def test_every_game_is_legal_and_every_position_is_that_of_a_plain_board():
    games, passes = othello.full_games(40, np.random.default_rng(3)), 0
    for g in range(len(games)):
        board = Board()
        for ply in range(othello.MOVES):
            square = divmod(int(othello.TOKEN_TO_SQUARE[games.moves[g, ply]]), 8)
            assert square in board.legal()
            player = board.player
            board.move(square)
            passes += board.player == player and bool(board.legal())
            own = {s for s, colour in board.discs.items() if colour == board.player}
            if board.legal():
                assert squares(games.own[g, ply]) == own
                assert squares(games.opponent[g, ply]) == set(board.discs) - own
                assert games.black_next[g, ply] == (board.player == BLACK)
            assert squares(games.legal[g, ply]) == board.legal()
        assert len(board.discs) == 64
    assert passes > 0  # or passing was not tested


def test_moves_are_chosen_uniformly_among_the_legal_ones():
    first = othello.full_games(8000, np.random.default_rng(0)).moves[:, 0]
    counts = np.bincount(first, minlength=60)
    opening = {othello.SQUARE_TO_TOKEN[8 * r + c] for r, c in Board().legal()}
    assert set(np.flatnonzero(counts)) == opening and len(opening) == 4
    assert (np.abs(counts[sorted(opening)] - 2000) < 5 * (2000 * 0.75) ** 0.5).all()


def test_tokens_are_the_squares_but_the_four_of_the_start():
    assert len(othello.TOKEN_TO_SQUARE) == 60
    for square in range(64):
        token = othello.SQUARE_TO_TOKEN[square]
        if square in (27, 28, 35, 36):
            assert token == -1
        else:
            assert othello.TOKEN_TO_SQUARE[token] == square


def test_legal_tokens_are_the_legal_squares():
    games = othello.full_games(5, np.random.default_rng(1))
    legal = games.legal_tokens()
    assert legal.shape == (5, 59, 60)
    for g, ply in itertools.product(range(5), (0, 10, 58)):
        rows = {divmod(int(othello.TOKEN_TO_SQUARE[t]), 8) for t in np.flatnonzero(legal[g, ply])}
        assert rows == squares(games.legal[g, ply])
    assert (np.take_along_axis(legal, games.moves[:, 1:, None].astype(int), 2) == 1).all()


def test_short_games_are_dropped_and_their_number_made_up():
    played = othello.play(3000, np.random.default_rng(0))
    assert 0.9 * 3000 < len(played) < 3000
    assert (np.sort(played.moves, 1) == np.arange(60)).all()  # each square once
    assert len(othello.full_games(3000, np.random.default_rng(0))) == 3000


@pytest.mark.parametrize("first", [0, 1, 3, 4, 11])
def test_the_stream_is_a_function_of_seed_and_index_alone(first):
    take = lambda seed, first, n: list(itertools.islice(othello.stream(3, seed, first, block=4), n))
    whole, part = take(7, 0, 16), take(7, first, 16 - first)
    for expected, found in zip(whole[first:], part, strict=True):
        np.testing.assert_array_equal(found.moves, expected.moves)
        np.testing.assert_array_equal(found.legal, expected.legal)
    assert not np.array_equal(take(8, 0, 1)[0].moves, whole[0].moves)
    assert len({games.moves.tobytes() for games in whole}) == 16


def test_the_loss_floor_is_the_mean_log_of_the_number_of_legal_moves():
    legal = np.zeros((1, 3, 60), np.uint8)
    legal[0, 0, :1], legal[0, 1, :4], legal[0, 2, :10] = 1, 1, 1
    assert othello.loss_floor(legal) == pytest.approx(np.log([1, 4, 10]).mean())
