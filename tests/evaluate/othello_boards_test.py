"""Whole boards and rings on boards made by hand, and the suite's figures of several units together."""

import numpy as np
import pytest

from jaxsae.evaluate import EvaluateConfig, evaluate
from jaxsae.evaluate.config import SUITES
from jaxsae.evaluate.othello.rings import rings
from jaxsae.evaluate.othello.targets import RING_OF_SQUARE
from jaxsae.evaluate.othello.together import boards, said_scores
from jaxsae.evaluate.othello_config import OthelloConfig

SITE, K = "resid_post.0", (1, 3)


def one_hot(states_Nx64):
    return np.concatenate([states_Nx64 == which for which in range(3)], 1)


def test_boards_are_right_where_all_squares_are():
    states = np.random.default_rng(0).integers(0, 3, (6, 64))
    said = states.copy()
    said[1, 5] = (said[1, 5] + 1) % 3
    said[4, :3] = (said[4, :3] + 1) % 3
    found = boards(one_hot(said) * 1.0, one_hot(states), games=3)
    assert found["boards"] == 4 / 6 and found["squares_wrong"] == 4 / 6
    assert np.flatnonzero(found["wrong"]).tolist() == [0, 1, 2, 5] and found["wrong"][5] == pytest.approx(1 / 6)
    by_game = np.array([0.5, 1.0, 0.5])  # boards right of two each
    half = 1.959964 * by_game.std(ddof=1) / 3**0.5
    np.testing.assert_allclose(found["boards_interval"], [2 / 3 - half, 2 / 3 + half])


def test_squares_of_which_nothing_or_too_much_is_said_have_their_most_common_state():
    common = np.tile([0, 1, 2, 1], 16)
    seen = one_hot(np.stack([common, common, common, np.zeros(64, int)]))
    said = np.zeros((2, 192), bool)
    said[1, 2] = said[1, 64 + 2] = True  # square 2 is said to be empty and mine, and theirs is the most common
    said[1, 128] = True  # square 0: theirs
    states = said_scores(said, seen).reshape(2, 3, 64).argmax(1)
    assert (states[0] == common).all()
    assert states[1, 0] == 2 and states[1, 2] == 0 and (states[1, 3:] == common[3:]).all()


def test_rings_hold_the_squares_they_should():
    by_hand = ["33333333", "32222223", "32111123", "32100123", "32100123", "32111123", "32222223", "33333333"]
    assert "".join(map(str, RING_OF_SQUARE)) == "".join(by_hand)


def test_rings_by_ply():
    games, plies = 4, 8
    rng = np.random.default_rng(1)
    labels = one_hot(rng.integers(0, 3, (games * plies, 64)))
    early = np.tile(np.arange(plies) < 4, games)[:, None]
    scores = np.where(early, labels, 0.0)  # all is told in the first half, and nothing in the second
    auroc = np.where(np.tile(RING_OF_SQUARE, 3) == 3, 0.95, 0.5)
    auroc[0] = np.nan
    found = rings({"latents": auroc}, {"latents": scores}, labels, games, first=4)
    assert found["squares"].tolist() == [4, 12, 20, 28] and found["targets"] == [12, 36, 60, 84]
    assert found["found"]["latents"] == [0, 0, 0, 83]
    assert found["mean_best_auroc"]["latents"] == pytest.approx([0.5, 0.5, 0.5, 0.95])
    assert found["plies"] == [[4, 5], [6, 7], [8, 9], [10, 11]]
    np.testing.assert_array_equal(found["by_ply"]["latents"], [[1, 1, 0.5, 0.5]] * 4)


@pytest.fixture(scope="module")
def found(tmp_path_factory, model_path):
    """Figures of a random dictionary on the tiny model, games played included."""
    import jax

    from jaxsae.dictionary import Dictionary, MethodConfig
    from jaxsae.dictionary.parameters import tied_init

    dictionary = Dictionary(tied_init(jax.random.key(0), 48, 16), MethodConfig(width=48, k=6), {"model": model_path})
    own = OthelloConfig(othello_k=K, othello_games=5, othello_played=6, othello_opening=6)
    flags = {"site": SITE, "model": model_path, "games": 12, "games_per_batch": 6, "batch_size": 200, "probe_rows": 500}
    config = EvaluateConfig(str(tmp_path_factory.mktemp("run")), suite=("othello",), othello=own, **flags)
    return evaluate(config, dictionary)["othello"]


def test_every_kind_of_units_has_its_probes_and_boards(found):
    assert "othello" in SUITES
    probes, whole = found["sparse_probes"], found["whole_boards"]["by"]
    assert probes["k"] == list(K) and probes["games"] == 5 and probes["rows"] == 5 * 47
    for kind in ("latents", "raw", "pca"):
        for i in range(len(K)):
            low, high = probes[kind]["mean_auroc_interval"][i]
            assert 0.4 < low < probes[kind]["mean_auroc"][i] < high < 1
        assert probes[kind]["mean_auroc"][1] > probes[kind]["mean_auroc"][0] - 0.02
    assert {"latents_single", "latents_1", "pca_3", "linear_probe", "most_common"} <= set(whole)
    assert whole["linear_probe"]["squares_wrong"] < whole["latents_3"]["squares_wrong"] < 64
    assert found["play"]["top1"]["original"]["fewer_than_original"] == 0


def test_what_it_says_holds_its_figures(found):
    summary = found["summary"]
    assert f"{found['above_0.9']['total']} of {found['targets']} squares' states" in summary["says"]
    assert summary["says"].count(". ") == summary["limits"].count(". ") == 0
    for figure in summary["figures"]:
        assert figure["baselines"] and figure["name"]
    names = [figure["name"] for figure in summary["figures"]]
    assert len(set(names)) == len(names) == 4 + 2 * len(K) + 2 + 3
    for plot in summary["plots"]:
        assert all(len(values) == len(plot["x"]) for values in plot["series"].values())
    for table in summary["tables"]:
        assert table["rows"] and all(len(row) == len(table["columns"]) for row in table["rows"])
    assert len(summary["boards"][0]["values"]) == 64
