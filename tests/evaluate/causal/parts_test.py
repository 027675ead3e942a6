"""Parts of the suite alone: probes against scikit-learn, boards against positions by hand, bootstraps, files of pairs."""

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jaxsae.errors import InputError
from jaxsae.evaluate.causal import pairs, probes
from jaxsae.evaluate.causal.contexts import share
from jaxsae.evaluate.causal.mediate import _at
from jaxsae.evaluate.causal.square import Flip
from jaxsae.evaluate.causal.task import renormalized
from jaxsae.lm.othello import SQUARE_TO_TOKEN, U64


@pytest.fixture
def classes():
    rng = np.random.default_rng(0)
    y = rng.random(1500) < 0.4
    x = rng.standard_normal((1500, 10))
    x[:, 0] += 1.5 * y
    x[:, 1] += y
    return x, y


def test_probes_are_those_of_scikit_learn(classes):
    x, y = classes
    w, bias = probes.logistic(x, y)
    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(x, y)
    np.testing.assert_allclose(w, theirs.coef_[0], atol=1e-4)
    assert bias == pytest.approx(theirs.intercept_[0], abs=1e-4)


def test_probes_that_are_refitted_are_orthogonal_until_nothing_is_left(classes):
    x, y = classes
    found, right = probes.directions(x, y, 20)
    assert len(found) == len(right) <= 10
    np.testing.assert_allclose(found @ found.T, np.eye(len(found)), atol=1e-8)
    assert right[0] > 0.75 and max(right[2:]) < 0.65
    assert np.linalg.norm(found[0, :2]) > 0.95


def test_a_perfect_split_does_not_overflow():
    x = np.concatenate([np.full((20, 2), -5.0), np.full((20, 2), 5.0)])
    w, _ = probes.logistic(x, np.arange(40) >= 20)
    assert np.isfinite(w).all() and (w > 0).all()


def squares(*names):
    return np.array([sum(1 << pairs.square_of(name) for name in names)], np.uint64)


def tokens(mask):
    at = lambda token: int(np.flatnonzero(token == SQUARE_TO_TOKEN)[0])
    return {f"{'ABCDEFGH'[at(t) % 8]}{at(t) // 8 + 1}" for t in np.flatnonzero(mask)}


def test_a_flipped_square_makes_moves_legal_and_others_not():
    # With C1 theirs D1 closes B1 and C1, and B2 closes B3; with C1 mine B1 stands between two of mine, and D1 closes nothing.
    flip = Flip.of(squares("A1", "B4"), squares("B1", "C1", "B3"), pairs.square_of("C1"))
    assert tokens(flip.before[0]) == {"D1", "B2"} and tokens(flip.after[0]) == {"B2"}
    assert tokens(flip.vanish[0]) == {"D1"} and not flip.appear.any() and flip.usable[0]
    flip = Flip.of(squares("A1"), squares("B1", "C1", "C2"), pairs.square_of("C1"))  # C1 mine: C3 closes C2
    assert tokens(flip.appear[0]) == {"C3"} and tokens(flip.vanish[0]) == {"D1"}


def test_scores_run_from_the_untouched_model_to_the_flipped_rules():
    flip = Flip.of(squares("A1"), squares("B1", "C1", "C2"), pairs.square_of("C1"))
    before, after = (np.where(mask, 0.0, -40.0) for mask in (flip.before, flip.after))
    zero, one = (flip.score(before, logits, np.zeros(1)) for logits in (before, after))
    assert zero.gain[0] == 0 and one.gain[0] == pytest.approx(one.whole[0]) and one.whole[0] > 0.5
    assert one.errors[0] == 0 < zero.errors[0] and zero.price[0] == 0


def test_prices_are_of_the_other_tokens_alone():
    rng = np.random.default_rng(0)
    p, q = rng.standard_normal((2, 3, 6))
    others = np.ones((3, 6), bool)
    others[:, 2] = False
    changed = p.copy()
    changed[:, 2] += 5
    np.testing.assert_allclose(renormalized(p, changed, others), 0, atol=1e-12)
    softmax = lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    a, b = (softmax(x[:, others[0]]) for x in (p, q))
    np.testing.assert_allclose(renormalized(p, q, others), (a * np.log(a / b)).sum(1))
    others[0] = False
    assert renormalized(p, q, others)[0] == 0


def test_shares_have_the_intervals_of_a_bootstrap_over_groups():
    rng = np.random.default_rng(0)
    whole, gain = np.ones(400), (rng.random(400) < 0.3).astype(float)
    value, (low, high) = share(gain, whole, 0)
    half = 1.96 * np.sqrt(value * (1 - value) / 400)
    assert (value - low, high - value) == (pytest.approx(half, rel=0.15), pytest.approx(half, rel=0.15))
    grouped = share(np.repeat(gain, 4), np.ones(1600), 0, np.repeat(np.arange(400), 4))
    assert grouped[0] == value and grouped[1] == pytest.approx([low, high])
    assert share(gain, whole, 0) == share(gain, whole, 0) and share(gain[:1], whole[:1], 0)[1] is None
    assert share(gain, 0 * whole, 0) == (None, None)


def test_effects_at_a_price_lie_between_strengths():
    sweep = [{"move": "set", "price": p, "share": s} for p, s in ((0.1, 0.2), (0.3, 0.6))]
    sweep.append({"move": "shift", "price": 0.05, "share": 0.1})
    assert _at(sweep, 0.05) == pytest.approx(0.1) and _at(sweep, 0.2) == pytest.approx(0.4)
    assert (
        _at(sweep, 1) == 0.6 and _at(sweep, 0.02) == pytest.approx(0.04) and _at(sweep[2:], 0.01) == pytest.approx(0.02)
    )


BAD = [
    ('{"a": "x"}', r"line 2: has no .*texts"),
    ("{", r"line 2: is no JSON"),
    ('{"a": "x", "b": "x"}', r"line 2: .*equal"),
    ('{"a": "x", "b": " "}', r'line 2, "b": is empty'),
]


@pytest.mark.parametrize(("line", "message"), BAD)
def test_lines_that_are_no_pairs_are_named(tmp_path, line, message):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"a": "one", "b": "two"}\n' + line + "\n")
    with pytest.raises(InputError, match=message):
        pairs.read_file(str(path), games=False)


def test_games_of_a_file_are_played_by_the_rules(tmp_path):
    path = tmp_path / "pairs.jsonl"
    for moves, message in (
        (["D3", "A1"], "move 2: A1 is not legal"),
        (["D3", "Z9"], "move 2: 'Z9' is no square"),
        ([], "has 0 moves"),
    ):
        path.write_text(json.dumps({"a": ["D3"], "b": moves}))
        with pytest.raises(InputError, match=message):
            pairs.read_file(str(path), games=True)
    path.write_text(json.dumps({"a": ["D3", "c3"], "b": ["D3", "C5"]}))
    token = lambda name: SQUARE_TO_TOKEN[pairs.square_of(name)]
    assert pairs.read_file(str(path), games=True) == [([token("D3"), token("C3")], [token("D3"), token("C5")])]
    path.write_text("\n")
    with pytest.raises(InputError, match="holds no pairs"):
        pairs.read_file(str(path), games=True)
    assert U64(1) << U64(pairs.square_of("H8")) == U64(1 << 63) and pairs.square_of("I1") is None
