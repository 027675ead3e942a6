"""Losses and gradients of every method, by every route and on meshes, equal an independent dense float64 implementation."""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dictionary.dense_reference import reference, smoothed_jumprelu_check
from jax.sharding import PartitionSpec as P

from jaxsae.dictionary import SPECS, Batch, MethodConfig, Params, make_method
from jaxsae.dictionary.selection.jumprelu import jump, step
from jaxsae.parallel import DATA, MODEL, make_mesh
from jaxsae.training import routes
from jaxsae.training.config import OptimizerConfig
from jaxsae.training.gradients import PairGradient
from jaxsae.training.optimizer import make_optimizer
from jaxsae.training.routes import choose, loss_and_gradient
from jaxsae.training.update import UpdateRule

BATCH, D, WIDTH, K, AUX_K = 16, 8, 64, 6, 10
MESHES = [(1, 1), (1, 8), (2, 4), (4, 2)]
PREFIXES = (4, 16, 33, WIDTH)
RANKED = ("topk", "batchtopk", "matryoshka")
SWITCHES = {
    "topk": {"k": K, "aux_k": AUX_K},
    "batchtopk": {"k": K, "aux_k": AUX_K, "row_k_max": 9},
    "matryoshka": {"k": K, "aux_k": AUX_K, "row_k_max": 9, "prefixes": PREFIXES},
    "jumprelu": {"k": K, "target_l0": 5.5, "l0_coefficient": 0.7, "bandwidth": 0.4, "l0_warmup": 0.0},
    "gated": {"l1_coefficient": 0.8, "l1_warmup": 0.5, "k": K, "target_l0": 0.0},
    "relu": {"l1_coefficient": 5.0, "l1_warmup": 0.5, "k": K, "target_l0": 0.0},
    "multi_topk": {"k": K, "aux_k": AUX_K, "multi_coefficient": 0.3},
    "hierarchical_topk": {"k": K, "aux_k": AUX_K},
    "abstopk": {"k": K, "aux_k": AUX_K},
    "jumprelu_tanh": {
        "k": K,
        "target_l0": 0.0,
        "tanh_coefficient": 0.6,
        "tanh_ramp": 0.5,
        "pre_coefficient": 0.05,
        "bandwidth": 0.8,
        "tanh_scale": 1.5,
    },
    "rescaled": {"shift": True, "k": K},
}
WARM = 0.25 / 0.5  # of the L1 weight, after a quarter of the steps
BESIDE = {"excess": P(MODEL), "target": P(DATA, None)}  # what else a batch may have


def method_of(name, **more):
    return make_method(MethodConfig(width=WIDTH, architecture=name, **SWITCHES[name] | more))


def expected(name, params, x, dead=None, **more):
    """Loss, {array: gradient} and what else the reference says, in the trainer's scale of each loss."""
    settings = {"k": K, "aux_k": AUX_K, "aux_coefficient": 1 / 32, "row_k_max": 9, "prefixes": list(PREFIXES)}
    scale = params.W_dec.shape[1] if name == "jumprelu" else 1  # ours is the error of a number
    if name == "jumprelu":
        settings |= {"l0": 0.7 * scale, "target_l0": 5.5, "bandwidth": 0.4}
    if name == "multi_topk":
        settings |= {"ranks": (K, 4 * K), "weights": (1.0, 0.3)}
    if name == "hierarchical_topk":
        settings |= {"ranks": (1, 2, 4, K), "weights": (1 / 6, 1 / 6, 1 / 3, 1 / 3)}
    if name == "jumprelu_tanh":
        settings |= {"tanh": 0.6 * WARM, "tanh_scale": 1.5, "pre": 0.05, "bandwidth": 0.8}
    if name in ("relu", "gated"):
        settings |= {"l1": SWITCHES[name]["l1_coefficient"] * WARM}
    arrays = {n: np.asarray(a, np.float64) for n, a in (params.latent | params.shared).items()}
    settings |= {"shift": True}
    loss, gradient, extras = reference(name, arrays, x.astype(np.float64), dead=dead, settings=settings | more)
    return loss / scale, {n: g / scale for n, g in gradient.items()}, extras


@functools.lru_cache(None)
def program(name, shape, blocked, products, dead, beside=(), **more):
    """The compiled (params, x, dead, {what is in `beside`}) -> (loss, report, gradient).

    `products`: latents up to which rankings go by them.
    """
    method = method_of(name, **dict(more))
    rule = UpdateRule(method, make_optimizer(OptimizerConfig(), 0), blocked=blocked)
    mesh = make_mesh(shape, jax.devices()[: shape[0] * shape[1]])

    def device(params, x, mask, beside):
        batch = Batch(x=x, dead=mask, rows=BATCH, step_fraction=0.25, **beside)
        loss, report, gradient = loss_and_gradient(method, rule, params, batch, dead)
        gradient = whole(gradient, params)
        return (
            jax.lax.psum(loss, DATA),
            report.replace(firings=jax.lax.all_gather(report.firings, MODEL, tiled=True)),
            gradient,
        )

    inputs = (SPECS, P(DATA, None), P(MODEL), {n: BESIDE[n] for n in beside})
    return jax.jit(jax.shard_map(device, mesh=mesh, in_specs=inputs, out_specs=(P(), P(), SPECS), check_vma=False))


def whole(gradient, params):
    """Any form of gradient as one of all latents, made of the blocks that an update would take."""
    if isinstance(gradient, Params):
        return gradient
    if not isinstance(gradient, PairGradient):
        return gradient.formed(params)
    n, size = len(params.b_enc), gradient.size
    blocks = [gradient.block(params, i, min(size, n - i * size))[0] for i in range(-(-n // size))]
    return Params(jax.tree.map(lambda *a: jnp.concatenate(a), *blocks), gradient.shared)


def run(name, shape, params, x, mask, blocked=True, products=0, dead=None, capacity=None, beside=None, **more):
    beside = beside or {}
    function = program(name, shape, blocked, products, dead, tuple(beside), **more)
    with (
        mock.patch.object(choose, "widest_by_products", lambda *_: products),
        mock.patch.object(routes.loss, "capacity_for_dead", lambda width: capacity or width),
    ):
        return function(params, x, mask, beside)


def arrays(name, seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda *s: rng.normal(size=s).astype(np.float32)
    own = {
        "jumprelu": {"threshold": 0.3 + 0.5 * rng.random(WIDTH).astype(np.float32)},
        "gated": {"r_mag": 0.3 * draw(WIDTH), "b_mag": 0.3 * draw(WIDTH)},
        "rescaled": {"r_mag": 0.3 * draw(WIDTH), "b_mag": 0.3 * draw(WIDTH)},
        "jumprelu_tanh": {"log_threshold": np.log(0.3 + 0.5 * rng.random(WIDTH)).astype(np.float32)},
    }.get(name, {})
    params = Params.of(draw(WIDTH, D), 0.3 * draw(WIDTH), 0.3 * draw(WIDTH, D), 0.3 * draw(D), **own)
    return params, draw(BATCH, D)


def mask_of(count, seed=5):
    mask = np.zeros(WIDTH, bool)
    mask[np.random.default_rng(seed).permutation(WIDTH)[:count]] = True
    return mask


def check(found, wanted, rtol=1e-5):
    (loss, report, gradient), (value, slopes, extras) = found, wanted
    np.testing.assert_allclose(loss, value, rtol=rtol)
    for name, array in (gradient.latent | gradient.shared).items():
        np.testing.assert_allclose(array, slopes[name], rtol=rtol, atol=rtol * np.abs(slopes[name]).max(), err_msg=name)
    assert int(report.active) == extras["active"]
    np.testing.assert_array_equal(report.firings, extras["firings"])


@pytest.mark.parametrize("shape", MESHES)
@pytest.mark.parametrize("name", SWITCHES)
def test_every_method_equals_the_dense_one_on_every_mesh(name, shape):
    params, x = arrays(name)
    check(run(name, shape, params, x, mask_of(0)), expected(name, params, x))


@pytest.mark.parametrize("shape", [(1, 1), (2, 4)])
@pytest.mark.parametrize("products", [0, WIDTH])
@pytest.mark.parametrize("blocked", [True, False])
@pytest.mark.parametrize("count", [3, 20, WIDTH])
@pytest.mark.parametrize("name", RANKED)
def test_rankings_with_dead_latents_equal_the_dense_ones_by_either_route(name, count, blocked, products, shape):
    params, x = arrays(name, seed=count)
    mask = mask_of(count)
    wanted = expected(name, params, x, dead=mask)
    for dead in ("tiles", "pairs") if not products else ("tiles",):
        check(run(name, shape, params, x, mask, blocked, products, dead), wanted)


@pytest.mark.parametrize(
    ("name", "products"), [("multi_topk", 0), ("hierarchical_topk", 0), ("abstopk", 0), ("abstopk", WIDTH)]
)
def test_rankings_by_rank_and_by_size_with_dead_latents_equal_the_dense_ones(name, products):
    params, x = arrays(name, seed=7)
    mask = mask_of(20)
    for dead in ("tiles", "pairs") if not products else ("tiles",):
        check(run(name, (2, 4), params, x, mask, True, products, dead), expected(name, params, x, dead=mask))


@pytest.mark.parametrize("name", RANKED)
def test_either_route_gives_the_same_to_1e_5(name):
    params, x = arrays(name, seed=3)
    mask = mask_of(20)
    by_pairs = run(name, (1, 1), params, x, mask, dead="pairs")
    for products in (0, WIDTH):
        found = run(name, (1, 1), params, x, mask, products=products, dead="tiles")
        np.testing.assert_allclose(found[0], by_pairs[0], rtol=1e-6)
        for left, right in zip(jax.tree.leaves(found[2]), jax.tree.leaves(by_pairs[2]), strict=True):
            np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-5 * np.abs(right).max())


def test_the_routes_are_different_programs(monkeypatch):
    """Otherwise the comparison above would say nothing."""
    seen = []
    for module, function in ((routes.ranked, "formed"), (routes.ranked, "dead_part"), (routes.pairs, "grouped")):
        sound = getattr(module, function)
        note = lambda *a, sound=sound, function=function, **k: (seen.append(function), sound(*a, **k))[1]
        monkeypatch.setattr(module, function, note)
    params, x = arrays("topk", seed=9)
    program.cache_clear()
    for products, dead, wanted in (
        (0, None, ["grouped"]),
        (0, "tiles", ["grouped", "dead_part"]),
        (WIDTH, None, ["formed"]),
    ):
        seen.clear()
        run("topk", (1, 1), params, x, mask_of(5), products=products, dead=dead)
        assert seen == wanted
    program.cache_clear()


def test_the_decoder_learns_by_the_gates_reconstruction_where_it_is_not_frozen():
    params, x = arrays("gated")
    free = run("gated", (2, 4), params, x, mask_of(0), frozen_gate=False)
    check(free, expected("gated", params, x, frozen=False))
    frozen = run("gated", (2, 4), params, x, mask_of(0))
    assert np.abs(free[2].W_dec - frozen[2].W_dec).max() > 1e-2


def test_straight_through_gradients_are_those_of_the_smoothed_functions():
    """H's exactly; f's with theta in the place of z, from which z differs by half the window at most."""
    rng = np.random.default_rng(0)
    z, theta, eps = rng.normal(size=(400, 5)), rng.uniform(0.2, 1.5, 5), 0.4
    found = smoothed_jumprelu_check(z, theta, eps)
    ours = {
        name: jax.vjp(lambda t, f=f: f(jnp.float32(z), t, eps), jnp.float32(theta))
        for name, f in (("step", step), ("jump", jump))
    }
    for name, (_, pull) in ours.items():
        each = np.array([pull(jnp.zeros(z.shape).at[i].set(1.0))[0] for i in range(40)])
        np.testing.assert_allclose(each, found[f"{name}_straight"][:40], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["step_straight"], found["step_smoothed"], atol=1e-12)
    inside = np.abs(z - theta) < eps / 2
    np.testing.assert_allclose(found["jump_straight"] - found["jump_smoothed"], inside * (z - theta) / eps, atol=1e-9)
