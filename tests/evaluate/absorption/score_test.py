"""Absorption against a plain loop over rows, conditions of optimality, and a dictionary in which it was planted."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression

from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.evaluate import EvaluateConfig
from jaxsae.evaluate.absorption import parents, score
from jaxsae.evaluate.absorption.judge import judge
from jaxsae.evaluate.absorption.parents import Part
from jaxsae.evaluate.absorption_config import AbsorptionConfig

CONFIG = AbsorptionConfig()


def by_rows(z, projections, onto, cosines, main, c):
    """(main fires, absorbed, fraction) of each row, one row and one rule after the other."""
    out = []
    for row, projection in zip(z, projections, strict=True):
        own = row * onto
        fires = any(row[i] != 0 for i in main)
        active = [i for i in np.argsort(-own) if row[i] != 0]
        absorbed = False
        if not fires and active and projection > 0:
            top = active[0]
            absorbed = cosines[top] >= c.absorption_cosine and own[top] / projection >= c.absorption_share
        by_main = sum(own[i] for i in main)
        others = [own[i] for i in active if i not in main and cosines[i] >= c.absorption_part_cosine and own[i] > 0]
        carried = sum(sorted(others, reverse=True)[: c.absorption_part_latents])
        if by_main >= projection or carried / projection < c.absorption_share:
            fraction = 0.0
        elif by_main <= 0:
            fraction = 1.0
        else:
            rest = min(carried, projection - by_main)
            fraction = min(max(rest / (rest + by_main), 0), 1)
        out.append((fires, absorbed, fraction))
    return [np.array(column) for column in zip(*out, strict=True)]


@pytest.mark.parametrize(
    "changes", [{}, {"absorption_part_latents": 1}, {"absorption_share": 0.1, "absorption_cosine": 0.3}]
)
def test_rows_are_judged_one_by_one(changes):
    rng = np.random.default_rng(0)
    config = dataclasses.replace(CONFIG, **changes)
    z = np.maximum(rng.standard_normal((400, 12)) - 0.9, 0)
    z[3] = 0
    onto, cosines = rng.standard_normal(12), rng.uniform(-0.2, 0.6, 12)
    projections = rng.standard_normal(400) + 0.5
    found = judge(sp.csr_matrix(z), projections, onto, cosines, [2, 5, 7], config)
    fires, absorbed, fraction = by_rows(z, projections, onto, cosines, [2, 5, 7], config)
    np.testing.assert_array_equal(found.main, fires)
    np.testing.assert_array_equal(found.absorbed, absorbed)
    np.testing.assert_allclose(found.fraction, fraction)
    assert 5 < absorbed.sum() < 395 and (fraction % 1).sum() > 0 and found.absorber[3] == -1


def test_the_sparse_probe_is_at_the_optimum():
    """The gradient of the smooth part is -strength sign(w) where w is not 0, at most strength elsewhere, 0 for the bias."""
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((500, 8)), rng.random(500) < 0.2
    x[:, 3] += 2 * y
    w = parents.l1_weights(x, y, 0.05)
    weight = np.where(y, (~y).sum() / y.sum(), 1) / len(y)
    bias = min(np.linspace(-3, 3, 2001), key=lambda b: (weight * (np.logaddexp(0, x @ w + b) - y * (x @ w + b))).sum())
    gradient = ((1 / (1 + np.exp(-(x @ w + bias))) - y) * weight) @ x
    on = w != 0
    assert on[3] and 0 < on.sum() < 8
    np.testing.assert_allclose(gradient[on], -0.05 * np.sign(w[on]), atol=2e-3)
    assert (np.abs(gradient[~on]) <= 0.052).all()


def test_the_probe_is_a_balanced_logistic_regression_of_scikit_learn():
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((400, 5)) * [1, 2, 3, 4, 5] + 7, rng.random(400) < 0.2
    x[:, 1] += 2 * y
    probe = parents.balanced_probe(x[:300], y[:300], x[300:], y[300:])
    scaled = (x - x[:300].mean(0)) / x[:300].std(0)
    expected = LogisticRegression(class_weight="balanced").fit(scaled[:300], y[:300])
    np.testing.assert_allclose(probe.logits(x[300:]), expected.decision_function(scaled[300:]), atol=1e-3)
    from sklearn.metrics import f1_score

    assert probe.f1 == pytest.approx(f1_score(y[300:], expected.predict(scaled[300:])))
    assert np.linalg.norm(probe.direction) == pytest.approx(1)


CHILDREN, ROWS, EACH = 5, 500, 20  # of 500 rows of the parent each of five children has 20


def planted(absorb: bool, seed: int):
    """(dictionary, rows): x is the parent's direction, a child's, or both; latent 0 is the parent's, 1 + i the child's.

    With `absorb` latent 10 + i stands for both where both are there, so that latent 0 is silent.
    """
    d, rng = 12, np.random.default_rng(seed)
    directions = np.eye(d)
    W_dec = np.zeros((20, d))
    W_dec[:6] = directions[:6]
    W_dec[10:15] = directions[0] + directions[1:6]
    y = np.arange(2 * ROWS) < ROWS
    child = np.full(2 * ROWS, -1)
    for i in range(CHILDREN):
        for first in (0, ROWS):
            child[first + i * EACH : first + (i + 1) * EACH] = i
    z = np.zeros((2 * ROWS, 20))
    for row in range(2 * ROWS):
        if y[row] and child[row] >= 0 and absorb:
            z[row, 10 + child[row]] = 1
        else:
            z[row, 0] = y[row]
            if child[row] >= 0:
                z[row, 1 + child[row]] = 1
    b_dec = np.full(d, 0.2)
    x = z @ W_dec + b_dec + 0.02 * rng.standard_normal((2 * ROWS, d))
    part = Part(x.astype(np.float32), sp.csr_matrix(z.astype(np.float32)), np.arange(2 * ROWS) // 2, y[:, None])
    params = Params.of(*(jnp.asarray(a, jnp.float32) for a in (W_dec, np.zeros(20), W_dec, b_dec)))
    return Dictionary(params, MethodConfig(width=20, k=2)), part


def measured(absorb: bool, **changes):
    dictionary, fit = planted(absorb, 0)
    judged = planted(absorb, 1)[1]
    config = EvaluateConfig(run="run", absorption=dataclasses.replace(CONFIG, **changes))
    probes = score.probes_of(fit, judged, ["parent"])
    return score.measure(dictionary, fit, judged, ["parent"], probes, config)


def test_planted_absorption_is_found_to_the_row():
    (parent,), found = measured(absorb=True)
    assert parent["main_latents"] == [0] and parent["counts"] and parent["true"] == ROWS
    share = CHILDREN * EACH / ROWS
    for origin in score.ORIGINS:
        assert parent[origin]["absorbed"] == CHILDREN * EACH and parent[origin]["main"] == ROWS - CHILDREN * EACH
        assert sorted(a["latent"] for a in parent[origin]["absorbers"]) == [10, 11, 12, 13, 14]
        assert all(a["rows"] == EACH and a["parent_holds"] == 1 for a in parent[origin]["absorbers"])
        for name in ("score", "rate", "fraction", "silent"):
            assert found[origin][name]["value"] == pytest.approx(share)
            low, high = found[origin][name]["interval"]
            assert share - 0.06 < low < share < high < share + 0.06
        assert found[origin]["parents"] == found["any_main"][origin]["parents"] == 1


def test_latents_that_are_all_their_own_absorb_nothing():
    (parent,), found = measured(absorb=False)
    assert parent["main_latents"] == [0] and parent["b_dec"]["main"] == ROWS
    assert (
        found["b_dec"]["score"] == {"value": 0.0, "interval": [0.0, 0.0]} and found["b_dec"]["fraction"]["value"] == 0
    )


def test_split_features_are_main_latents_all():
    """Where the least that a latent adds is enough the children's latents are main ones, and nothing is absorbed."""
    (parent,), found = measured(absorb=True, absorption_f1_jump=0.001)
    assert sorted(parent["main_latents"]) == [0, 10, 11, 12, 13, 14] and found["b_dec"]["score"]["value"] == 0


def test_parents_without_a_good_probe_or_main_latents_do_not_count():
    (parent,), found = measured(absorb=True, absorption_probe_f1=1.0, absorption_main_gain=1.0)
    assert parent["probe_f1"] == pytest.approx(1) and not parent["counts"] and parent["probed"]
    assert found["b_dec"] == {
        "parents": 0,
        "score": None,
        "rate": None,
        "fraction": None,
        "silent": None,
        "main_latents": None,
    }
    assert found["any_main"]["b_dec"]["parents"] == 1


def test_means_are_over_parents_and_skip_what_is_not_defined():
    sums = lambda *rows: {"zero": np.array(rows, float)}
    about = {"main_latents": [1, 2]}
    one = score.Found(about, sums([4, 4], [3, 1], [1, 3], [1, 1]))  # true, main, absorbed, fraction of two games
    two = score.Found(about, sums([1, 1], [0, 0], [0, 0], [0, 0]))  # neither fires nor is absorbed
    found = score.means([one, two], "zero", 0)
    assert found["score"]["value"] == 0.5 and found["rate"]["value"] == 0.25 and found["fraction"]["value"] == 0.125
    assert found["silent"]["value"] == 0.75 and found["main_latents"] == 2 and found["true"] == 10
    assert found["score"]["interval"] == [0.25, 0.75]  # either game alone at the ends
