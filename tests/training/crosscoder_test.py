"""Crosscoders: several sites are read and written as one, by latents whose rows have a part at each."""

import functools
import shutil
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxsae.dictionary import SPECS, Batch, MethodConfig, Normalization, Widths, fold, make_method, unfold
from jaxsae.dictionary.finish import UnitRows, UnitSites
from jaxsae.errors import InputError
from jaxsae.evaluate import EvaluateConfig, evaluate
from jaxsae.exchange import ExportConfig, export
from jaxsae.parallel import DATA, make_mesh
from jaxsae.report import ReportConfig, report
from jaxsae.training import load, train
from jaxsae.training.routes import choose, loss_and_gradient
from jaxsae.training.setup import Setup
from jaxsae.training.update import UpdateRule

ROWS, WIDTH, K, BATCH = 2048, 64, 4, 16
WIDTHS = (12, 8)
READS = ("resid.0", "resid.1")
METHODS = {
    "topk": {"architecture": "topk", "k": K, "aux_k": 8},
    "batchtopk": {"architecture": "batchtopk", "k": K, "aux_k": 8},
    "relu": {"architecture": "relu", "target_l0": 0.0, "l1_coefficient": 3.0},
    "jumprelu": {"architecture": "jumprelu", "k": K},
}


def method_config(name: str, sites: tuple[int, ...] = WIDTHS) -> MethodConfig:
    return MethodConfig(width=WIDTH, site_widths=sites, **METHODS[name])


def random_params(method, sites: tuple[int, ...], seed: int = 1):
    rng = np.random.default_rng(seed)
    params = method.init(jax.random.key(0), Widths(sites, len(sites)))
    draw = lambda a: jnp.asarray(rng.normal(size=a.shape) / a.shape[-1] ** 0.5, jnp.float32)
    return jax.tree.map(draw, params)


def parts_lengths(rows: np.ndarray, sites: tuple[int, ...]) -> np.ndarray:
    """float64 [n]: sum_l ||W_i^l||."""
    return sum(np.linalg.norm(part, axis=1) for part in np.split(np.float64(rows), np.cumsum(sites)[:-1], 1))


@pytest.fixture(scope="module")
def rows():
    """{site: float32 [ROWS, d]}: of features that both sites have, and of some that one has."""
    rng = np.random.default_rng(0)
    active = rng.random((ROWS, 32)) * (rng.random((ROWS, 32)) < 0.1)
    first, second = rng.normal(size=(32, 12)), rng.normal(size=(32, 8))
    first[:6], second[6:12] = 0, 0
    found = {
        "resid.0": active @ first + 2 + 0.02 * rng.normal(size=(ROWS, 12)),
        "other.0": rng.normal(size=(ROWS, 6)),
        "resid.1": 50 * (active @ second - 1 + 0.02 * rng.normal(size=(ROWS, 8))),
    }
    return {site: x.astype(np.float32) for site, x in found.items()}


@pytest.fixture(scope="module")
def store(rows, store_of):
    return store_of(rows)


@pytest.fixture
def crosscoder(configure, store):
    """crosscoder(name of METHODS, run, **flags) -> TrainConfig, as flags say it: sites' widths follow."""

    def make(name: str, run: str = "run", **flags):
        return configure(run, **{"store": store, "method": method_config(name, ()), "reads": READS} | flags)

    return make


@functools.lru_cache(None)
def compiled(name: str, shape: tuple[int, int], by: str):
    method = make_method(method_config(name))

    def device(params, x, dead):
        batch = Batch(x=x, dead=dead, rows=BATCH, step_fraction=0.25)
        way = None if not method.ranks else "pairs" if by == "pairs" else "tiles"
        with mock.patch.object(choose, "widest_by_products", lambda *_: WIDTH if by == "products" else 0):
            value, _, gradient = loss_and_gradient(method, UpdateRule(method, None, blocked=False), params, batch, way)
        return jax.lax.psum(value, DATA), gradient

    mesh = make_mesh(shape, jax.devices()[: shape[0] * shape[1]])
    specs = SPECS, P(DATA, None), P("model")
    return jax.jit(jax.shard_map(device, mesh=mesh, in_specs=specs, out_specs=(P(), SPECS), check_vma=False))


def reference(name: str, latent: dict, shared: dict, x, dead):
    """The loss in float64, as the papers have it: rows of a ranking are of one length, so that f_i ranks as
    f_i sum_l ||W_dec,i^l|| does."""
    b_dec = shared["b_dec"]
    pre = (x - b_dec if name != "relu" else x) @ latent["W_enc"].T + latent["b_enc"]
    fixed, method = jax.lax.stop_gradient(pre), make_method(method_config(name))
    if name == "relu":
        f = jnp.maximum(pre, 0)
        ends = np.cumsum(WIDTHS)[:-1]
        norms = sum(jnp.sqrt((part**2).sum(1)) for part in jnp.split(latent["W_dec"], ends, 1))
        return ((x - f @ latent["W_dec"] - b_dec) ** 2).sum() / len(x) + 3.0 * (f @ norms).sum() / len(x)
    flat = np.sort(np.maximum(fixed, 0).reshape(-1))[-K * len(x)]
    row, most = (-np.sort(-np.asarray(fixed), 1)[:, [k - 1]] for k in (K, 4 * K))
    kept = (fixed >= flat) & (fixed >= most) if name == "batchtopk" else fixed >= row
    error = x - jnp.where(kept & (fixed > 0), pre, 0) @ latent["W_dec"] - b_dec
    among = np.where(dead, fixed, -np.inf)
    best = (among >= -np.sort(-among, 1)[:, [7]]) & (among > 0)
    left = jax.lax.stop_gradient(error) - jnp.where(best, pre, 0) @ latent["W_dec"]
    aux = method.aux.coefficient * (left**2).sum() / jax.lax.stop_gradient((error**2).sum())
    return (error**2).sum() / x.size + aux


@pytest.mark.parametrize(
    ("name", "by"),
    [*((name, by) for name in ("topk", "batchtopk") for by in ("pairs", "products")), ("relu", "tiles")],
)
@pytest.mark.parametrize("shape", [(1, 1), (2, 4)])
def test_loss_and_gradients_are_those_of_the_equations(name, by, shape):
    method = make_method(method_config(name))
    params = random_params(method, WIDTHS)
    params = params if name == "relu" else method.after_step(params)
    rng = np.random.default_rng(3)
    x, dead = rng.normal(size=(BATCH, sum(WIDTHS))).astype(np.float32), rng.random(WIDTH) < 0.4
    value, gradient = compiled(name, shape, by)(params, x, dead)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: np.asarray(a, np.float64), (params.latent, params.shared))
        loss, expected = jax.value_and_grad(lambda p: reference(name, *p, np.float64(x), dead))(wide)
        expected = {n: np.asarray(a) for part in expected for n, a in part.items()}
    np.testing.assert_allclose(value, loss, rtol=1e-5)
    for n, a in (gradient.latent | gradient.shared).items():
        np.testing.assert_allclose(a, expected[n], rtol=1e-4, atol=1e-5, err_msg=n)


def test_a_step_keeps_the_lengths_at_all_sites_together():
    rng, finish = np.random.default_rng(4), UnitSites(sites=WIDTHS)
    method = make_method(method_config("topk"))
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
    method = make_method(method_config("topk", ()))
    params = method.after_step(random_params(method, (12,)))
    gradient = params.put(W_dec=jnp.asarray(rng.normal(size=params.W_dec.shape), jnp.float32))
    for function in ("project_gradient", "after_step"):
        given = (params, gradient) if function == "project_gradient" else (gradient,)
        a, b = getattr(one, function)(*given), getattr(UnitRows(), function)(*given)
        np.testing.assert_allclose(a.W_dec, b.W_dec, rtol=1e-5, atol=1e-6)


def test_where_both_sites_are_the_same_it_has_the_autoencoder_s_latents_and_error():
    plain, double = (make_method(method_config("topk", sites)) for sites in ((), (12, 12)))
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
        from jaxsae.training.routes import report_of

        batch = Batch(x=x, dead=jnp.zeros(WIDTH, bool), rows=BATCH)
        run = jax.shard_map(
            lambda p: report_of(method, p, batch), mesh=mesh, in_specs=(SPECS,), out_specs=P(), check_vma=False
        )
        return run(params)

    one, two = report(plain, params, x), report(double, twice, np.concatenate([x, x], 1))
    assert np.array_equal(one.firings, two.firings) and one.active == two.active
    np.testing.assert_allclose(two.squared_error, 2 * one.squared_error, rtol=1e-5)
    np.testing.assert_allclose(two.squared_norm, 2 * one.squared_norm, rtol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_a_resumed_run_ends_bit_identical_and_encodes_as_on_other_meshes(name, crosscoder, newest_state, assert_same):
    whole, cut = (crosscoder(name, run, mesh=(1, 1)) for run in ("whole", "cut"))
    train(whole)
    shutil.copytree(whole.workdir, cut.workdir)
    shutil.rmtree(Path(cut.workdir, "checkpoints", "12"))
    train(cut)
    state = newest_state(cut)[1]
    assert_same(state, newest_state(whole)[1])
    x = np.random.default_rng(0).normal(size=(9, sum(WIDTHS))).astype(np.float32)
    one, spread = (np.asarray(load(cut.workdir, mesh).reconstruct(x)) for mesh in (None, make_mesh((1, 8))))
    np.testing.assert_allclose(one, spread, rtol=1e-5, atol=1e-4)
    dictionary = load(cut.workdir)
    assert dictionary.widths == Widths(WIDTHS, 2) and dictionary.metadata["reads"] == list(READS)


@pytest.mark.parametrize("name", ["topk", "jumprelu"])
def test_folded_weights_give_in_units_of_the_activations_what_the_trainer_has(name):
    method, rng = make_method(method_config(name)), np.random.default_rng(2)
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


def test_it_is_judged_site_by_site(crosscoder, rows, metrics):
    flags = {"steps": 300, "mesh": (1, 1), "checkpoint_every": 300, "ema_decay": 0.0, "learning_rate": 1e-2}
    config = crosscoder("topk", **flags)
    train(config)
    found = evaluate(EvaluateConfig(run=config.workdir), quiet=True)["reconstruction"]
    x = [np.float64(rows[site][-ROWS // 32 :]) for site in READS]
    dictionary = load(config.workdir)
    y = np.split(np.float64(dictionary.reconstruct(np.concatenate(x, 1).astype(np.float32))), [12], 1)
    each = [((a - b) ** 2).sum() / ((a - a.mean(0)) ** 2).sum() for a, b in zip(x, y, strict=True)]
    assert [found["sites"][site]["fvu"] for site in READS] == pytest.approx(each, rel=1e-4)
    # 50 times larger activations at one site do not make it the only one that counts.
    spread = [np.sqrt(((rows[site] - rows[site].mean(0)) ** 2).sum(1).mean()) for site in READS]
    weights = [d * ((a - a.mean(0)) ** 2).sum() / s**2 for a, s, d in zip(x, spread, WIDTHS, strict=True)]
    assert found["fvu"] == pytest.approx(np.average(each, weights=weights), rel=1e-3)
    # Training measures the same rows about the mean of the whole store.
    assert found["fvu"] == pytest.approx(metrics(config)[-1]["held_out_fvu"], rel=0.03) and found["fvu"] < 0.4
    rows_of = np.split(np.float64(dictionary.params.W_dec), [12], 1)
    lengths = [np.linalg.norm(w, axis=1) * d**0.5 / s for w, s, d in zip(rows_of, spread, WIDTHS, strict=True)]
    shares = np.stack(lengths, 1) / np.sum(lengths, 0)[:, None]
    with np.load(Path(config.workdir) / "eval" / "site_shares.npz") as file:
        np.testing.assert_allclose(file["shares"], shares, rtol=1e-3)
    own = (shares >= 0.9).sum(0)
    assert list(found["exclusive"].values()) == list(own) and found["shared"] == (shares >= 0.25).all(1).sum()
    assert found["shared"] + own.sum() + found["between"] == WIDTH and found["shared"] > 0


def test_another_run_s_weights_are_the_initial_ones(crosscoder, configure, store):
    first = crosscoder("topk", "first", mesh=(1, 1), ema_decay=0.0)
    train(first)
    second = Setup.of(crosscoder("topk", "second", mesh=(1, 1), initialize_from=first.workdir, ema_decay=0.0))
    params, method = second.fresh_state().params, second.method
    back = fold(params, *second.normalization.sides(second.widths)[:1], method.pre_bias, method.selection)
    np.testing.assert_allclose(back.W_dec, load(first.workdir).params.W_dec, rtol=1e-4, atol=1e-4)
    reversed_sites = crosscoder("topk", "other", initialize_from=first.workdir, reads=READS[::-1])
    with pytest.raises(InputError, match="numbers of its sites 12.8 where this run has 8.12"):
        Setup.of(reversed_sites)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"reads": ("resid.0", "resid.9")}, "--reads=resid.9: .* has .*resid.1"),
        ({"reads": ("resid.0",)}, "--reads=resid.0: is one site: give --writes too"),
        ({"reads": ("resid.0", "resid.0")}, "--reads=resid.0,resid.0: names a site twice"),
        ({"site": "resid.0"}, "--site=resid.0: leave it out"),
        ({"method": method_config("topk", (8, 12))}, "--site_widths=8,12: --reads=resid.0,resid.1 have 12,8"),
        ({"method": method_config("topk"), "reads": (), "site": "resid.0"}, "--site_widths=12,8: goes with several"),
    ],
)
def test_sites_that_do_not_do_are_refused(flags, message, crosscoder):
    with pytest.raises(InputError, match=message):
        Setup.of(crosscoder("topk", **flags))


def test_what_has_one_site_does_not_take_it(crosscoder, tmp_path):
    config = crosscoder("topk", mesh=(1, 1), steps=4)
    train(config)
    with pytest.raises(InputError, match="--suite=othello: .* is a crosscoder: give some of reconstruction, splice"):
        evaluate(EvaluateConfig(run=config.workdir, suite=("othello",)), quiet=True)
    with pytest.raises(InputError, match="--format=saelens cannot hold a crosscoder"):
        export(ExportConfig(run=config.workdir, format="saelens", output=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_its_page_has_its_sites(crosscoder):
    config = crosscoder("topk", mesh=(1, 1), steps=4)
    train(config)
    found = evaluate(EvaluateConfig(run=config.workdir), quiet=True)["reconstruction"]
    page = report(ReportConfig(run=config.workdir)).read_text()
    assert "Crosscoder" in page and "Site by site" in page
    assert all(f"FVU {found['sites'][site]['fvu']:.4f}" in page for site in READS)
