"""Coverage and board reconstruction against loops over latents, thresholds and targets."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.metrics import f1_score, precision_score, recall_score

from jaxsae.evaluate import coverage as module
from jaxsae.evaluate.coverage import FEWEST, PRECISION, board_f1, both_halves, coverage


@pytest.fixture
def case():
    rng = np.random.default_rng(2)
    labels = rng.random((200, 6)) < 0.4
    z = rng.random((200, 9)) * (rng.random((200, 9)) < 0.2)
    for u, t in ((0, 0), (1, 1), (2, 1), (3, 4)):  # latents that hold a target, with some firing besides
        z[:, u] = np.where(labels[:, t], rng.uniform(0.3, 1, 200), 0.2 * (rng.random(200) < 0.5))
    z[:, 4] = np.where(labels[:, 3], rng.uniform(0.5, 1, 200), 0.9 * (rng.random(200) < 0.2))  # nearly precise
    z[::2, 5] = np.where(labels[::2, 5], rng.uniform(0.5, 0.6, 100), 0.1)
    z[1::2, 5] = 0
    z[150, 5] = 5  # its maximum is in the second half, far above what the first half shows
    z[:, -1] = 0
    return z, labels


def test_coverage_is_the_best_f1(case):
    z, labels = case
    expected = [
        max(f1_score(y, z[:, u] > t / 10 * z[:, u].max(), zero_division=0) for u in range(9) for t in range(10))
        for y in labels.T
    ]
    np.testing.assert_allclose(coverage(sp.csr_matrix(z), labels), expected, atol=1e-6)
    assert expected[0] > 0.95 > 0.7 > expected[2]


def test_boards_are_said_by_classifiers_precise_on_the_first_half(case):
    z, labels = case
    half, options = 90, []
    for t in range(10):
        fires = z > t / 10 * z[:half].max(0)
        precise = np.zeros((9, 6), bool)
        for u in range(9):
            for target in range(6):
                said = fires[:half, u]
                if said.sum() >= FEWEST:
                    precise[u, target] = (labels[:half, target] & said).sum() / said.sum() > PRECISION
        said = np.array([[(fires[n] & precise[:, target]).any() for target in range(6)] for n in range(200)])
        options.append((f1_score(labels[:half].ravel(), said[:half].ravel()), said[half:].ravel()))
    said = max(options, key=lambda o: o[0])[1]
    truth = labels[half:].ravel()
    found = board_f1(sp.csr_matrix(z), labels, half)
    assert found["board_f1"] == pytest.approx(f1_score(truth, said)) and found["board_f1"] > 0.3
    assert found["board_precision"] == pytest.approx(precision_score(truth, said))
    assert found["board_recall"] == pytest.approx(recall_score(truth, said))


def test_states_that_exclude_each_other_and_rows_in_parts_change_nothing(case, monkeypatch):
    z, _ = case
    state = np.random.default_rng(4).integers(0, 3, (200, 3))
    labels = np.concatenate([state == which for which in range(3)], 1)
    z[:, 0] = np.where(labels[:, 0], 1 + z[:, 0], 0)
    plain = coverage(sp.csr_matrix(z), labels), board_f1(sp.csr_matrix(z), labels, 90)
    monkeypatch.setattr(module, "ROWS", 17)
    np.testing.assert_array_equal(plain[0], coverage(sp.csr_matrix(z), labels, exclusive=3))
    assert plain[1] == board_f1(sp.csr_matrix(z), labels, 90, exclusive=3) and plain[1]["board_f1"] > 0.1


def test_dead_dictionaries_say_nothing(case):
    _, labels = case
    dead = sp.csr_matrix((200, 4))
    assert (coverage(dead, labels) == 0).all()
    assert board_f1(dead, labels, 100) == {"board_f1": 0, "board_precision": 0, "board_recall": 0}


def test_both_halves_split_directions_about_their_mean():
    x = np.array([[1.0, 5.0], [3.0, 1.0]])
    np.testing.assert_array_equal(both_halves(x).toarray(), [[0, 2, 1, 0], [1, 0, 0, 2]])
