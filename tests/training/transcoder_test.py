"""Transcoders: what is written is another site than what is read, by latents and, with --skip, past them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsae.dictionary import MethodConfig, Normalization, Widths, fold, make_method, unfold
from jaxsae.errors import InputError
from jaxsae.evaluate import EvaluateConfig, evaluate
from jaxsae.parallel import make_mesh
from jaxsae.training import load, train
from jaxsae.training.config import OptimizerConfig
from jaxsae.training.optimizer import make_optimizer
from jaxsae.training.setup import Setup

ROWS, D_IN, D_OUT, WIDTH, K, BATCH = 2048, 12, 10, 64, 4, 16
METHODS = {
    "topk": {"architecture": "topk", "k": K, "aux_k": 8},
    "skip": {"architecture": "topk", "k": K, "aux_k": 8, "skip": True},
    "batchtopk": {"architecture": "batchtopk", "k": K, "aux_k": 8, "skip": True},
    "jumprelu": {"architecture": "jumprelu", "k": K, "skip": True},
}


def method_config(name: str) -> MethodConfig:
    return MethodConfig(width=WIDTH, transcode=True, **METHODS[name])


@pytest.fixture(scope="module")
def rows():
    """{site: float32 [ROWS, d]}: what is written is a sum of features of what is read, and a linear map of it."""
    rng = np.random.default_rng(0)
    active = rng.random((ROWS, 32)) * (rng.random((ROWS, 32)) < 0.1)
    read = active @ rng.normal(size=(32, D_IN)) + 3 * rng.normal(size=D_IN) + 0.05 * rng.normal(size=(ROWS, D_IN))
    written = 40 * (active @ rng.normal(size=(32, D_OUT)) + 0.5 * read @ rng.normal(size=(D_IN, D_OUT))) - 7
    found = {"mlp_in.0": read, "resid.0": rng.normal(size=(ROWS, 6)), "mlp_out.0": written}
    return {site: x.astype(np.float32) for site, x in found.items()}


@pytest.fixture(scope="module")
def store(rows, store_of):
    return store_of(rows)


@pytest.fixture
def transcoder(configure, store):
    """transcoder(name of METHODS, run, **flags) -> TrainConfig."""

    def make(name: str, run: str = "run", **flags):
        sites = {"reads": ("mlp_in.0",), "writes": ("mlp_out.0",)}
        return configure(run, **{"store": store, "method": method_config(name), **sites} | flags)

    return make


@pytest.mark.parametrize("name", METHODS)
def test_a_resumed_run_ends_bit_identical_and_encodes_as_on_other_meshes(name, transcoder, resumed):
    cut, _ = resumed(functools.partial(transcoder, name))
    x = np.random.default_rng(0).normal(size=(9, D_IN)).astype(np.float32)
    one, spread = (np.asarray(load(cut.workdir, mesh).reconstruct(x)) for mesh in (None, make_mesh((1, 8))))
    np.testing.assert_allclose(one, spread, rtol=1e-5, atol=1e-5)


def test_another_run_s_weights_are_the_initial_ones(transcoder):
    first = transcoder("skip", "first", mesh=(1, 1), ema_decay=0.0)
    train(first)
    second = transcoder("skip", "second", mesh=(1, 1), initialize_from=first.workdir, ema_decay=0.0)
    params, expected = Setup.of(second).fresh_state().params, Setup.of(first).fresh_state().params
    x = np.random.default_rng(0).normal(size=(9, D_IN)).astype(np.float32)
    folded = load(first.workdir)
    setup = Setup.of(second)
    read, written = (setup.normalization.of(pick) for pick in (setup.widths.read, setup.widths.written))
    back = fold(params, read, False, folded.method.selection, written)
    np.testing.assert_allclose(back.W_dec, folded.params.W_dec, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(back.shared["W_skip"], folded.params.shared["W_skip"], rtol=1e-4, atol=1e-5)
    assert not np.allclose(params.W_dec, expected.W_dec) and np.isfinite(np.asarray(folded.reconstruct(x))).all()


def test_it_learns_and_a_map_past_the_latents_lowers_its_error(transcoder, metrics):
    flags = {"steps": 200, "mesh": (1, 1), "checkpoint_every": 200, "ema_decay": 0.0, "learning_rate": 1e-2}
    runs = {name: transcoder(name, name, **flags) for name in ("topk", "skip")}
    for config in runs.values():
        train(config)
    fvu = {name: metrics(config)[-1]["held_out_fvu"] for name, config in runs.items()}
    assert fvu["skip"] < fvu["topk"] < 0.5
    found = {name: evaluate(EvaluateConfig(run=c.workdir), quiet=True)["reconstruction"] for name, c in runs.items()}
    for name, figures in found.items():
        assert figures["fvu"] == pytest.approx(fvu[name], rel=1e-3)
        assert figures["site"] == "mlp_in.0->mlp_out.0"


def test_the_linear_baseline_is_that_of_least_squares(transcoder, rows):
    config = transcoder("topk", mesh=(1, 1))
    train(config)
    found = evaluate(EvaluateConfig(run=config.workdir), quiet=True)["reconstruction"]
    x, t = (np.float64(rows[site][-ROWS // 32 :]) for site in ("mlp_in.0", "mlp_out.0"))
    with_one = np.hstack([x, np.ones((len(x), 1))])
    error = t - with_one @ np.linalg.lstsq(with_one, t)[0]
    expected = np.square(error).sum() / np.square(t - t.mean(0)).sum()
    assert found["baselines"]["linear"]["fvu"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["skip", "jumprelu"])
def test_folded_weights_give_in_units_of_the_activations_what_the_trainer_has(name):
    method, rng = make_method(method_config(name)), np.random.default_rng(2)
    params = jax.tree.map(
        lambda a: jnp.asarray(rng.normal(size=a.shape), jnp.float32),
        method.init(jax.random.key(0), Widths((D_IN, D_OUT), 1, (1,))),
    )
    read = Normalization(rng.normal(size=D_IN).astype(np.float32), 0.3)
    written = Normalization(rng.normal(size=D_OUT).astype(np.float32), 7.0)
    folded = fold(params, read, method.pre_bias, method.selection, written)

    def given(p, x):
        z = x @ np.float64(p.W_enc).T + np.float64(p.b_enc)
        z = z * (z > np.float64(p.latent["threshold"])) if name == "jumprelu" else np.maximum(z, 0)
        return z @ np.float64(p.W_dec) + np.float64(p.b_dec) + x @ np.float64(p.shared["W_skip"]).T

    x = rng.normal(size=(20, D_IN))
    units = given(params, (x - read.mean) * read.scale) / written.scale + written.mean
    np.testing.assert_allclose(given(folded, x), units, rtol=1e-4, atol=1e-4)
    back = unfold(folded, read, method.pre_bias, method.selection, written)
    for n, a in (params.latent | params.shared).items():
        np.testing.assert_allclose((back.latent | back.shared)[n], a, rtol=1e-4, atol=1e-4, err_msg=n)


def test_what_skips_the_latents_has_a_rate_of_its_own():
    method = make_method(method_config("skip"))
    params = method.init(jax.random.key(0), Widths((D_IN, D_OUT), 1, (1,)))
    gradient = jax.tree.map(jnp.ones_like, params)

    def direction(**flags):
        optimizer = make_optimizer(OptimizerConfig(**flags), 0, method.rates)
        return optimizer.update(gradient, optimizer.init(params), params)[0]

    one, other = direction(), direction(skip_rate=0.25)
    np.testing.assert_allclose(other.shared["W_skip"], one.shared["W_skip"] / 4)
    assert np.array_equal(other.b_dec, one.b_dec) and np.array_equal(other.W_dec, one.W_dec)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"writes": ("mlp_out.9",)}, "--writes=mlp_out.9: .* has embed|mlp_in.0"),
        ({"reads": ()}, "--writes=mlp_out.0: needs --reads"),
        ({"optimization": OptimizerConfig(skip_rate=2.0)}, "--skip_rate=2.0: goes with --skip"),
        ({"reads": ("mlp_in.0", "resid.0")}, "--reads=mlp_in.0,resid.0: a transcoder reads one site"),
        ({"site": "resid.0"}, "--site=resid.0: leave it out"),
        ({"writes": ("mlp_in.0",)}, "--writes=mlp_in.0: is what is read"),
        ({"method": MethodConfig(width=WIDTH, tied=True, transcode=True)}, "--tied=true: .*different spaces"),
        ({"method": MethodConfig(width=WIDTH, pre_bias=True, transcode=True)}, "--pre_bias=true"),
        (
            {"method": MethodConfig(width=WIDTH, architecture="gated", transcode=True)},
            "--architecture=gated: .*jumprelu",
        ),
        ({"method": MethodConfig(width=WIDTH)}, "--transcode=.*goes with --writes"),
    ],
)
def test_sites_and_switches_that_do_not_do_are_refused(flags, message, transcoder):
    with pytest.raises(InputError, match=message):
        Setup.of(transcoder("topk", **flags))


def test_only_suites_of_transcoders_judge_it(transcoder):
    config = transcoder("topk", mesh=(1, 1), steps=4)
    train(config)
    with pytest.raises(InputError, match="--suite=othello: .* is a transcoder: give some of reconstruction, splice"):
        evaluate(EvaluateConfig(run=config.workdir, suite=("othello",)), quiet=True)


def test_where_latents_are_chosen_one_by_one_the_decoder_starts_as_the_linear_map_of_the_encoder(transcoder, rows):
    setup, told = Setup.of(transcoder("jumprelu", mesh=(1, 1), method=method_config("jumprelu"))), []
    params = jax.tree.map(np.float64, setup.fresh_state(told.append).params)
    x, t = (np.float64(rows[site][: ROWS - setup.holdout]) for site in ("mlp_in.0", "mlp_out.0"))
    sides = setup.normalization.sides(setup.widths)
    x, t = ((a - of.mean) * of.scale for a, of in zip((x, t), sides, strict=True))
    linear = np.linalg.lstsq(x, t)[0]
    made = np.float64(params.W_enc) @ linear
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    z = x @ params.W_enc.T + params.b_enc
    z = z * (z > params.latent["threshold"])
    scale = (t * (z @ made)).sum() / np.square(z @ made).sum()
    np.testing.assert_allclose(params.W_dec, scale * made, rtol=0.02, atol=0.02 * scale)
    fvu = np.square(t - z @ params.W_dec).sum() / np.square(t).sum()
    said = next(line for line in told if "linear map" in line)
    assert float(said.rsplit(" ", 1)[1]) == pytest.approx(fvu, abs=0.01)
    assert not np.asarray(Setup.of(transcoder("topk", mesh=(1, 1))).fresh_state().params.W_dec).any()
