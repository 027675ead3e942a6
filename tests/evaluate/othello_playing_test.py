"""Games played to the end by models whose moves are known, and by the tiny GPT with things in its place."""

import numpy as np
import pytest

from jaxsae.evaluate.intervals import of_share
from jaxsae.evaluate.othello.playing import Played, figures, play_all, played
from jaxsae.lm import othello
from jaxsae.lm.othello import MOVES, TOKEN_TO_SQUARE, U64, advance, bits

OPENING, GAMES = 6, 5
SITE = "resid_post.0"


@pytest.fixture(scope="module")
def games():
    return othello.full_games(GAMES, np.random.default_rng(11))


def knows_the_rules(games, illegal=()):
    """Logits that favour the last legal move, or at plies of `illegal` a square of the centre's first neighbour played."""
    own = np.full(len(games), 1 << 28 | 1 << 35, U64)
    opponent = np.full(len(games), 1 << 27 | 1 << 36, U64)
    boards = [own, opponent]

    def logits(tokens, ply):
        own, opponent, legal, _ = advance(*boards, U64(1) << TOKEN_TO_SQUARE[tokens.astype(int)].astype(U64))
        boards[:] = own, opponent
        out = bits(legal)[:, TOKEN_TO_SQUARE] * (1.0 + np.arange(MOVES) / MOVES)
        if ply + 1 in illegal:
            out[np.arange(len(tokens)), tokens.astype(int)] = 9  # what was just played
        return out

    return logits


def silent(games):
    return np.zeros((len(games), MOVES - OPENING, MOVES))


def test_a_model_that_knows_the_rules_plays_whole_games(games):
    found = played(knows_the_rules(games), games, OPENING, silent(games))
    assert found.legal[found.asked].all() and found.whole.all()
    np.testing.assert_array_equal(found.until, found.asked.sum(1))
    assert (found.asked[:, :20]).all()


def test_an_illegal_move_ends_a_game_and_later_moves_are_counted_all_the_same(games):
    found = played(knows_the_rules(games, illegal=(OPENING + 10, OPENING + 12)), games, OPENING, silent(games))
    assert (found.until == 10).all() and not found.whole.any()
    assert (~found.legal[:, [10, 12]]).all() and found.legal[:, 11].all()
    sums = figures(found, played(knows_the_rules(games), games, OPENING, silent(games)))
    assert sums["until"] == sums["until_median"] == 10 and sums["until_interval"] == [10, 10]
    assert sums["still_legal"][9] == 1 and sums["still_legal"][10] == 0 and sums["whole"] == 0
    assert sums["legal"] == pytest.approx(1 - 2 * GAMES / found.asked.sum()) and sums["fewer_than_original"] > 30


def test_a_model_that_never_plays_a_legal_move(games):
    always = range(MOVES + 1)
    found = played(knows_the_rules(games, illegal=always), games, OPENING, silent(games))
    assert (found.until == 0).all() and not found.legal.any() and found.asked[:, 0].all()


def test_games_that_are_over_early_stay_legal():
    asked, legal = np.ones((2, 2, 4), bool)
    asked[0, 3] = legal[0, 3] = False  # over after three moves, all legal
    legal[1, 3] = False
    found = Played(asked, legal)
    assert found.until.tolist() == [3, 3] and found.whole.tolist() == [True, False]
    assert figures(found, found)["still_legal"] == [1, 1, 1, 0.5]


def test_its_own_activations_change_nothing_and_zeros_do(model, games):
    stand_ins = {"spliced": lambda x: x, "zero": np.zeros_like}
    calls = []
    found = play_all(model, SITE, stand_ins, games, OPENING, 0, lambda: calls.append(1))
    again = play_all(model, SITE, stand_ins, games, OPENING, 0, lambda: None)
    assert len(calls) == 3 and found["moves"] == MOVES - OPENING
    for way in ("top1", "sampled"):
        np.testing.assert_array_equal(found[way]["spliced"]["until_of_games"], found[way]["original"]["until_of_games"])
        assert found[way]["zero"]["legal"] != found[way]["original"]["legal"] == again[way]["original"]["legal"]


def test_the_interval_of_a_share_is_one_of_none_and_of_all_too():
    low, high = of_share(0, 50)
    assert low == pytest.approx(0, abs=1e-12) and high == pytest.approx(0.0713, abs=1e-4)
    assert of_share(50, 50)[0] == pytest.approx(1 - high)
    assert of_share(15, 50) == pytest.approx([0.1910, 0.4375], abs=1e-4)  # Wilson's, by hand
