"""What a crosscoder keeps in a step, is folded to, and has in common with an autoencoder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxsae.dictionary import SPECS, Batch, MethodConfig, Normalization, Widths, fold, make_method, unfold
from jaxsae.dictionary.finish import UnitRows, UnitSites
from jaxsae.parallel import make_mesh
from jaxsae.training.routes import report_of

WIDTH, K, BATCH = 64, 4, 16
WIDTHS = (12, 8)


def method_of(name: str, sites: tuple[int, ...] = WIDTHS):
    return make_method(MethodConfig(width=WIDTH, architecture=name, k=K, site_widths=sites))


def random_params(method, sites: tuple[int, ...], seed: int = 1):
    rng = np.random.default_rng(seed)
    params = method.init(jax.random.key(0), Widths(sites, len(sites)))
    draw = lambda a: jnp.asarray(rng.normal(size=a.shape) / a.shape[-1] ** 0.5, jnp.float32)
    return jax.tree.map(draw, params)


def parts_lengths(rows: np.ndarray, sites: tuple[int, ...]) -> np.ndarray:
    """float64 [n]: sum_l ||W_i^l||."""
    return sum(np.linalg.norm(part, axis=1) for part in np.split(np.float64(rows), np.cumsum(sites)[:-1], 1))


def test_a_step_keeps_the_lengths_at_all_sites_together():
    rng, finish = np.random.default_rng(4), UnitSites(sites=WIDTHS)
    method = method_of("topk")
    params = method.after_step(random_params(method, WIDTHS))
    even = sum((d / sum(WIDTHS)) ** 0.5 for d in WIDTHS)
    np.testing.assert_allclose(parts_lengths(params.W_dec, WIDTHS), even, rtol=1e-5)
    gradient = params.put(W_dec=jnp.asarray(rng.normal(size=params.W_dec.shape), jnp.float32))
    left = np.float64(finish.project_gradient(params, gradient).W_dec)
    # The sum of lengths does not change to first order, and what was taken away is along its own gradient alone.
    moved = [parts_lengths(np.float64(params.W_dec) + h * left, WIDTHS) for h in (1e-4, -1e-4)]
    np.testing.assert_allclose((moved[0] - moved[1]) / 2e-4, 0, atol=1e-4)
    unit = [p / np.linalg.norm(p, axis=1, keepdims=True) for p in np.split(np.float64(params.W_dec), [WIDTHS[0]], 1)]
    normal, taken = np.concatenate(unit, 1), np.float64(gradient.W_dec) - left
    np.testing.assert_allclose(taken, (taken * normal).sum(1, keepdims=True) / 2 * normal, atol=1e-5)


def test_of_one_site_it_is_the_autoencoder():
    rng, one = np.random.default_rng(5), UnitSites(sites=(12,))
    method = method_of("topk", ())
    params = method.after_step(random_params(method, (12,)))
    gradient = params.put(W_dec=jnp.asarray(rng.normal(size=params.W_dec.shape), jnp.float32))
    for function in ("project_gradient", "after_step"):
        given = (params, gradient) if function == "project_gradient" else (gradient,)
        a, b = getattr(one, function)(*given), getattr(UnitRows(), function)(*given)
        np.testing.assert_allclose(a.W_dec, b.W_dec, rtol=1e-5, atol=1e-6)


def test_where_both_sites_are_the_same_it_has_the_autoencoder_s_latents_and_error():
    plain, double = (method_of("topk", sites) for sites in ((), (12, 12)))
    params = plain.after_step(random_params(plain, (12,)))
    # Each site has half of what is read; a latent is as large as its rows at both sites are long together.
    twice = random_params(double, (12, 12)).put(
        W_enc=jnp.concatenate([params.W_enc] * 2, 1) / 2,
        b_enc=params.b_enc,
        W_dec=jnp.concatenate([params.W_dec] * 2, 1),
        b_dec=jnp.concatenate([params.b_dec] * 2),
    )
    norms = double.finish.lengths(twice.W_dec)
    twice = twice.put(W_enc=twice.W_enc * norms[:, None], b_enc=twice.b_enc * norms, W_dec=twice.W_dec / norms[:, None])
    assert np.array_equal(double.after_step(twice).W_dec.shape, twice.W_dec.shape)
    np.testing.assert_allclose(double.after_step(twice).W_dec, twice.W_dec, rtol=1e-5)
    x = np.random.default_rng(6).normal(size=(BATCH, 12)).astype(np.float32)
    mesh = make_mesh((1, 1), jax.devices()[:1])

    def report(method, params, x):
        batch = Batch(x=x, dead=jnp.zeros(WIDTH, bool), rows=BATCH)
        given = lambda p: report_of(method, p, batch)
        return jax.shard_map(given, mesh=mesh, in_specs=(SPECS,), out_specs=P(), check_vma=False)(params)

    one, two = report(plain, params, x), report(double, twice, np.concatenate([x, x], 1))
    assert np.array_equal(one.firings, two.firings) and one.active == two.active
    np.testing.assert_allclose(two.squared_error, 2 * one.squared_error, rtol=1e-5)
    np.testing.assert_allclose(two.squared_norm, 2 * one.squared_norm, rtol=1e-5)


@pytest.mark.parametrize("name", ["topk", "jumprelu"])
def test_folded_weights_give_in_units_of_the_activations_what_the_trainer_has(name):
    method, rng = method_of(name), np.random.default_rng(2)
    params = random_params(method, WIDTHS)
    parts = [Normalization(rng.normal(size=d).astype(np.float32), s) for d, s in zip(WIDTHS, (0.3, 7.0), strict=True)]
    both = Normalization.beside(parts)
    read, written = both.sides(Widths(WIDTHS, 2))
    folded = fold(params, read, method.pre_bias, method.selection, written)

    def latents(p, x):
        b_dec = np.float64(p.b_dec) if method.pre_bias else 0
        z = (x - b_dec) @ np.float64(p.W_enc).T + np.float64(p.b_enc)
        return z * (z > np.float64(p.latent["threshold"])) if name == "jumprelu" else np.maximum(z, 0)

    given = lambda p, x: latents(p, x) @ np.float64(p.W_dec) + np.float64(p.b_dec)
    x = rng.normal(size=(20, sum(WIDTHS)))
    y = (x - both.mean) * both.scale
    np.testing.assert_allclose(given(folded, x), given(params, y) / both.scale + both.mean, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(latents(folded, x) * 0.3, latents(params, y), rtol=1e-4, atol=1e-4)
    back = unfold(folded, read, method.pre_bias, method.selection, written)
    for n, a in (params.latent | params.shared).items():
        np.testing.assert_allclose((back.latent | back.shared)[n], a, rtol=1e-4, atol=1e-4, err_msg=n)
