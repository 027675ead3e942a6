"""Probes against scikit-learn used plainly, figures against its metrics, intervals against draws one by one."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from sklearn.model_selection import LeaveOneGroupOut
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jaxsae.evaluate.probing import compare, paired, probes
from jaxsae.evaluate.probing.rows import Rows, pooled

N, M, D = 240, 90, 6


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((N + M, D)).astype(np.float32), rng.random(N + M) < 0.35
    x[:, 1] += 1.2 * y
    x[:, 4] = 3 * x[:, 4] - 2 * y
    return x[:N], y[:N], rng.integers(0, probes.FOLDS, N), x[N:], y[N:]


def test_logistic_regression_is_the_best_of_cross_validation(data):
    x, y, folds, x_test, _ = data
    make = lambda strength: make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300)).fit
    scaled, losses = StandardScaler().fit_transform(x), []
    for strength in probes.STRENGTHS:
        loss = 0.0
        for inside, outside in LeaveOneGroupOut().split(scaled, y, folds):
            model = LogisticRegression(C=strength, max_iter=300).fit(scaled[inside], y[inside])
            loss -= np.log(model.predict_proba(scaled[outside])[np.arange(len(outside)), y[outside].astype(int)]).sum()
        losses.append(loss)
    best = probes.STRENGTHS[int(np.argmin(losses))]
    said = probes.logistic(x, y, folds, x_test)
    assert said.about == {"C": best}
    expected = make(best)(x, y)
    np.testing.assert_allclose(said.scores, expected.decision_function(x_test), atol=2e-3)
    np.testing.assert_array_equal(said.holds, expected.predict(x_test))


def test_nearest_neighbours_vote(data):
    x, y, folds, x_test, _ = data
    said = probes.nearest(x, y, folds, x_test)
    expected = KNeighborsClassifier(said.about["neighbours"]).fit(x, y)
    np.testing.assert_allclose(said.scores, expected.predict_proba(x_test)[:, 1])
    few = probes.nearest(x[:7], np.arange(7) < 3, np.arange(7) % 3, x_test)  # fewer rows than neighbours
    assert few.about["neighbours"] <= 7 and len(few.scores) == M


def test_latents_that_differ_most_are_those_of_plain_means(data):
    x, y = np.maximum(data[0], 0), data[1]
    x[:, 5] = 0  # never active
    difference = np.abs(x[y].mean(0) - x[~y].mean(0))
    with np.errstate(invalid="ignore"):
        standard = np.nan_to_num(difference / x.std(0))
    for units in (x, sp.csr_matrix(x)):
        assert probes.most_different(units, y, 3, False).tolist() == np.argsort(-difference)[:3].tolist()
        assert probes.most_different(units, y, 3, True).tolist() == np.argsort(-standard)[:3].tolist()
    np.testing.assert_array_equal(probes.dense(sp.csr_matrix(x), np.array([4, 1])), x[:, [4, 1]])


def test_principal_components_come_from_the_rows_that_fit(data):
    fit, test = probes.components(data[0], data[3])
    pca = PCA().fit(data[0])
    np.testing.assert_allclose(np.abs(fit), np.abs(pca.transform(data[0])), atol=1e-4)
    np.testing.assert_allclose(np.abs(test), np.abs(pca.transform(data[3])), atol=1e-4)


def test_figures_are_those_of_scikit_learn_in_every_draw():
    rng = np.random.default_rng(1)
    y, scores = rng.random(60) < 0.4, np.round(rng.standard_normal(60), 1)  # with ties
    said, context = probes.Said(scores, scores > 0.2, {}), np.repeat(np.arange(15), 4)
    weights = paired.draws(context, seed=0)[:6]
    assert (weights[0] == 1).all() and (weights.sum(1) == 60).all()
    assert all(len(set(w[context == c])) == 1 for w in weights for c in range(15))  # contexts are drawn whole
    found = paired.measured(said, y, weights)
    for b, w in enumerate(weights):
        again = np.repeat(np.arange(60), w.astype(int))
        rows = y[again], said.holds[again]
        assert found[0, b] == pytest.approx(roc_auc_score(y[again], scores[again]))
        assert found[1, b] == pytest.approx(accuracy_score(*rows)) and found[2, b] == pytest.approx(f1_score(*rows))


def test_what_is_not_defined_in_a_draw_is_left_out_of_the_interval():
    figure = paired.figure(np.array([0.5, np.nan, 0.4, 0.6]))
    assert figure["value"] == 0.5 and figure["interval"] == pytest.approx([0.405, 0.595])
    assert paired.interval(np.array([1.0, np.nan])) is None


def test_pooling_is_that_of_each_context():
    rng = np.random.default_rng(2)
    x, counts = np.maximum(rng.standard_normal((9, 4)), 0).astype(np.float32), np.array([2, 1, 6])
    parts = np.split(x, [2, 3])
    for units in (x, sp.csr_matrix(x)):
        for how, expected in (("mean", np.mean), ("max", np.max), ("last", lambda part, axis: part[-1])):
            found = probes.dense(pooled(units, counts, how))
            np.testing.assert_allclose(found, [expected(part, axis=0) for part in parts], atol=1e-6)


@pytest.fixture(scope="module")
def told():
    """Rows whose label stands in latent 7 alone, weakly in the raw activation; three rows a context."""
    rng = np.random.default_rng(4)
    y = rng.random(600) < 0.3
    latents = np.maximum(rng.standard_normal((600, 20)), 0)
    latents[:, 7] = np.where(y, 1 + rng.random(600), 0)
    raw = rng.standard_normal((600, 8)).astype(np.float32)
    raw[:, 2] += 0.5 * y
    context = np.repeat(np.arange(200), 3)
    rows = Rows(context, raw, raw[:, :3], {"latents": sp.csr_matrix(latents.astype(np.float32))})
    tests = context >= 140
    return rows, y, tests, compare.probed(rows, y, tests, context % 3, (1, 4), True)


def test_a_latent_that_is_the_label_is_found_and_right_everywhere(told):
    rows, y, tests, said = told
    assert said["latents_1"].about["chosen"] == [7]
    found = compare.figures(
        {name: paired.measured(s, y[tests], paired.draws(rows.context[tests], 0)) for name, s in said.items()}, (1, 4)
    )
    for metric in paired.METRICS:
        assert found["probes"]["latents_1"][metric] == {"value": 1.0, "interval": [1.0, 1.0]}
    assert found["probes"]["majority"]["auroc"]["value"] == 0.5
    assert found["probes"]["majority"]["accuracy"]["value"] == pytest.approx(1 - y[tests].mean())
    ahead = found["differences"]["latents_1"]["raw"]["auroc"]
    assert ahead["value"] == pytest.approx(1 - found["probes"]["raw"]["auroc"]["value"]) and ahead["interval"][0] > 0.1
    assert set(found["differences"]["latents_4"]) == {
        "raw",
        "pca_all",
        "reconstruction",
        "knn",
        "majority",
        "coordinates_4",
        "pca_4",
    }


def test_a_difference_is_taken_in_each_draw(told):
    rows, y, tests, said = told
    drawn = {name: paired.measured(s, y[tests], paired.draws(rows.context[tests], 0)) for name, s in said.items()}
    found = compare.figures(drawn, (1, 4))["differences"]["latents_4"]["raw"]["accuracy"]
    less = drawn["latents_4"][1] - drawn["raw"][1]
    assert found["interval"] == pytest.approx(np.percentile(less[1:], (2.5, 97.5)).tolist())
    mean = compare.mean_of([drawn, {"raw": drawn["raw"] + 0.1, "latents_4": drawn["latents_4"]}])
    assert set(mean) == {"raw", "latents_4"} and mean["raw"][0, 0] == pytest.approx(drawn["raw"][0, 0] + 0.05)
