"""What methods may have beside selection and objective: terms on frequent latents and on decoder rows, what a step holds,
more latents in the first steps, prefixes that are drawn; against NumPy or the dense float64 reference."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dictionary.methods_test import BATCH, SWITCHES, WIDTH, D, K, arrays, check, expected, mask_of, method_of, run

from jaxsae.dictionary import ARCHITECTURES, Dictionary, MethodConfig, Params, make_method
from jaxsae.dictionary.objective import NestedPrefixes
from jaxsae.dictionary.penalty.adversary import Adversary
from jaxsae.dictionary.penalty.frequency import Frequency, averaged, beside_average
from jaxsae.dictionary.penalty.orthogonality import Orthogonality
from jaxsae.dictionary.penalty.rows import Sample
from jaxsae.dictionary.penalty.steer import Moment, Steer
from jaxsae.errors import InputError


@pytest.mark.parametrize(
    ("name", "products"),
    [
        ("topk", 0),
        ("batchtopk", WIDTH),
        ("matryoshka", WIDTH),
        ("multi_topk", 0),
        ("abstopk", 0),
        ("abstopk", WIDTH),
        ("jumprelu", 0),
        ("gated", 0),
    ],
)
def test_frequent_latents_cost_what_they_are(name, products):
    params, x = arrays(name, seed=2)
    costs = np.random.default_rng(1).uniform(0, 0.3, WIDTH).astype(np.float32) * (np.arange(WIDTH) % 3 == 0)
    found = run(name, (2, 4), params, x, mask_of(0), products=products, beside={"excess": costs})
    scale = D if name == "jumprelu" else 1  # the reference is of a whole row there
    check(found, expected(name, params, x, costs=scale * costs.astype(np.float64)))


def test_the_excess_of_frequent_latents():
    frequency, w = np.array([0.05, 0.1, 0.3, 0.9], np.float32), np.diag([1.0, 2.0, 3.0, 0.5])
    found = Frequency(0.7).excess(jnp.asarray(frequency), jnp.asarray(w, jnp.float32))
    np.testing.assert_allclose(found, [0, 0, 0.7 * 2 * 3, 0.7 * 8 * 0.5], rtol=1e-5)
    after = averaged(jnp.asarray(frequency), jnp.array([0, 8, 16, 4]), 16)
    np.testing.assert_allclose(after, 0.99 * frequency + 0.01 * np.array([0, 0.5, 1, 0.25]), rtol=1e-6)


def test_orthogonality_is_the_mean_largest_squared_cosine_with_another_row():
    rows = np.random.default_rng(0).normal(size=(9, 5)) * np.arange(1, 10)[:, None]
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, 0)
    wanted = 0.4 * (cosines**2).max(1).mean()
    np.testing.assert_allclose(Orthogonality(0.4, 9).term(jnp.asarray(rows, jnp.float32)), wanted, rtol=1e-5)


def test_the_adversarys_term_is_the_share_of_frequent_rows_that_its_opponent_explains():
    rng = np.random.default_rng(3)
    rows, k = rng.normal(size=(11, 6)), 2
    w = {"W_enc": rng.normal(size=(7, 6)), "b_enc": 0.1 * rng.normal(size=7), "W_dec": rng.normal(size=(7, 6))}
    w["b_dec"] = 0.2 * rng.normal(size=6)
    r = rows * 6**0.5 / np.linalg.norm(rows, axis=1, keepdims=True)
    pre = (r - w["b_dec"]) @ w["W_enc"].T + w["b_enc"]
    kept = pre >= np.sort(pre, 1)[:, -k][:, None]
    r_hat = np.where(kept & (pre > 0), pre, 0) @ w["W_dec"] + w["b_dec"]
    share = 1 - ((r - r_hat) ** 2).sum(1) / ((r - w["b_dec"]) ** 2).sum(1)
    opponent = {name: jnp.asarray(a, jnp.float32) for name, a in w.items()}
    frequency = rng.random(11) * (rng.random(11) < 0.7)
    often = beside_average(jnp.asarray(frequency, jnp.float32), jnp.float32(frequency.mean()))
    found = Adversary(0.8, 7, k, 11).term(jnp.asarray(rows, jnp.float32), often, opponent)
    weights = np.minimum(frequency / frequency.mean(), 1)
    assert (weights == 0).any() and (weights == 1).any()
    np.testing.assert_allclose(found, 0.8 * (weights * np.maximum(share, 0)).mean(), rtol=1e-5)


@pytest.mark.parametrize("width", [16, 50, 64])
def test_a_sample_holds_different_latents_and_spreads_back_to_them(width):
    for seed in range(20):
        sample = Sample.draw(jax.random.key(seed), 16, width)
        table = jnp.arange(width, dtype=jnp.float32)[:, None] + 1
        drawn = sample.rows(table)
        chosen = np.asarray(drawn[:, 0], int) - 1
        assert len(set(chosen)) == 16
        back = np.concatenate([sample.spread(drawn, start, min(24, width - start)) for start in range(0, width, 24)])
        wanted = np.where(np.isin(np.arange(width), chosen), np.arange(width) + 1, 0)
        np.testing.assert_array_equal(back[:, 0], wanted)


def of_a_finish(**switches):
    method = make_method(MethodConfig(width=WIDTH, k=K, **switches))
    params, _ = arrays("topk", seed=4)
    params = method.after_step(params)
    gradient, _ = arrays("topk", seed=5)
    return method, params, method.project_gradient(params, gradient), gradient


@pytest.mark.parametrize("architecture", ["topk", "relu"])
def test_aligned_rows_have_an_inner_product_of_1_and_keep_it(architecture):
    method, params, projected, _ = of_a_finish(architecture=architecture, aligned=True)
    dots = lambda p: np.einsum("nd,nd->n", np.float64(p.W_enc), np.float64(p.W_dec))
    np.testing.assert_allclose(dots(params), 1, rtol=1e-5)
    np.testing.assert_allclose(np.einsum("nd,nd->n", projected.W_enc, params.W_dec), 0, atol=1e-5)
    # The shortest way back: along the decoder's row.
    moved = params.put(W_enc=params.W_enc + projected.W_enc)
    back = method.after_step(moved)
    np.testing.assert_allclose(back.W_enc, moved.W_enc, atol=1e-4)


def test_tied_rows_are_one_and_learn_by_both():
    _, params, projected, gradient = of_a_finish(tied=True)
    np.testing.assert_array_equal(params.W_enc, params.W_dec)
    both = np.float64(gradient.W_enc) + np.float64(gradient.W_dec)
    along = np.einsum("nd,nd->n", both, params.W_dec)[:, None] * params.W_dec
    np.testing.assert_allclose(projected.W_dec, both - along, atol=1e-5)
    np.testing.assert_array_equal(projected.W_enc, projected.W_dec)


def test_rescaled_learns_magnitudes_alone():
    method = make_method(MethodConfig(width=WIDTH, architecture="rescaled", shift=False))
    params, _ = arrays("rescaled", seed=6)
    projected = method.project_gradient(params, params)
    changed = {name for name, g in (projected.latent | projected.shared).items() if np.abs(g).any()}
    assert changed == {"r_mag", "b_mag"}
    after = method.after_step(params)
    wanted = np.exp(np.float64(params.latent["r_mag"])) * np.float64(params.b_enc)
    np.testing.assert_allclose(after.latent["b_mag"], wanted, rtol=1e-5)


@pytest.mark.parametrize("shift", [True, False])
def test_rescaled_latents_by_either_form(shift):
    params, x = arrays("rescaled", seed=7)
    found = run("rescaled", (1, 1), params, x, mask_of(0), shift=shift)
    check(found, expected("rescaled", params, x, shift=shift))


@pytest.mark.parametrize(
    ("name", "products"), [("topk", 0), ("topk", WIDTH), ("batchtopk", 0), ("batchtopk", WIDTH), ("abstopk", 0)]
)
def test_more_latents_are_active_while_k_falls(name, products):
    """After a quarter of the steps, of which 0.5 anneal: halfway from 10 to 6."""
    params, x = arrays(name, seed=8)
    found = run(name, (2, 4), params, x, mask_of(0), products=products, k_start=10, k_anneal=0.5)
    check(found, expected(name, params, x, k=8, row_k_max=10))


def test_drawn_prefixes_are_sorted_differ_by_step_and_end_with_all():
    objective = NestedPrefixes((4, 16, 33, WIDTH), random=True)
    latents = jnp.arange(WIDTH)
    parts = [np.asarray(objective.part_of(latents, jax.random.key(i))) for i in range(30)]
    assert all((np.diff(part) >= 0).all() and part.max() <= 3 for part in parts)
    assert len({part.tobytes() for part in parts}) > 20
    assert all((part[:4] == 0).all() for part in parts)  # no prefix is shorter than the first
    np.testing.assert_array_equal(
        objective.part_of(latents, None), NestedPrefixes((4, 16, 33, WIDTH)).part_of(latents, None)
    )


def test_a_steered_weight_rises_while_l0_is_too_high():
    steer = Steer(target=8.0, start=32.0, share=0.5, power=1.0, reach=20.0, first=0.5)
    late = Moment(0.9, 0.3, 16.0)
    np.testing.assert_allclose(steer.factor(late), 0.5 * np.exp(0.3 + np.log(2)), rtol=1e-5)
    paying = dataclasses.replace(steer, direct=0.5)
    np.testing.assert_allclose(paying.factor(Moment(0.9, 0.3, 4.0)), 0.25 * np.exp(0.3) - 0.5 * np.log(2), rtol=1e-5)
    np.testing.assert_allclose(steer.after(0.3, 16.0, 0.9, 100), 0.3 + 0.2 * np.log(2), rtol=1e-5)
    np.testing.assert_allclose(steer.after(0.3, 16.0, 0.9, 10), 0.3 + 0.25 * np.log(2), rtol=1e-5)  # a short run
    np.testing.assert_allclose(steer.after(0.3, 16.0, 0.25, 100), 0.3, atol=1e-6)  # halfway from 32 to 8
    np.testing.assert_allclose(steer.factor(Moment(0.9, 0.0, 1e6)), 0.5 * np.e, rtol=1e-5)  # held within a factor of e


def test_another_k_of_a_finished_dictionary():
    params, x = arrays("hierarchical_topk", seed=9)
    sae = Dictionary(params, MethodConfig(width=WIDTH, architecture="hierarchical_topk", k=K))
    two = sae.with_k(2).encode(x)
    assert two.values.shape == (BATCH, 2)
    np.testing.assert_array_equal(two.values, sae.encode(x).values[:, :2])
    with pytest.raises(InputError, match="--k=7: this hierarchical_topk dictionary is for 1 to 6 latents of a row"):
        sae.with_k(7)
    with pytest.raises(InputError, match="--k=2: a row of a relu dictionary keeps no number of latents of its own"):
        Dictionary(Params(params.latent, params.shared), method_of("relu").config).with_k(2)


def test_signed_latents_of_a_finished_dictionary_are_the_largest_in_size():
    params, x = arrays("abstopk", seed=10)
    found = Dictionary(params, MethodConfig(width=WIDTH, architecture="abstopk", k=K)).encode(x)
    pre = (x - np.float64(params.b_dec)) @ np.float64(params.W_enc).T + np.float64(params.b_enc)
    order = np.argsort(-np.abs(pre), 1)[:, :K]
    np.testing.assert_array_equal(found.indices, order)
    np.testing.assert_allclose(found.values, np.take_along_axis(pre, order, 1), rtol=1e-4, atol=1e-5)


def test_every_architecture_is_compared_with_the_dense_reference():
    assert set(SWITCHES) == set(ARCHITECTURES)


def test_ranks_that_are_given_weigh_alike_and_those_of_no_flag_what_they_stand_for():
    weights = lambda **flags: (
        make_method(MethodConfig(width=WIDTH, architecture="hierarchical_topk", **flags)).objective
    )
    assert weights(k=8, ranks=(2, 8)).weights == (0.5, 0.5)
    own = weights(k=12)
    assert own.ranks == (1, 2, 4, 8, 12)
    np.testing.assert_allclose(own.weights, np.diff([0, *own.ranks]) / 12)
