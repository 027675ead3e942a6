"""Optimisers on a mesh against optax and NumPy; the schedule at its corners."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from jaxsae.dictionary import SPECS, MethodConfig, Params, make_method
from jaxsae.dictionary.rates import Rates, swept
from jaxsae.errors import InputError
from jaxsae.parallel import MODEL, make_mesh
from jaxsae.training.config import OptimizerConfig
from jaxsae.training.optimizer import Moments, make_optimizer, peak_rate, round_randomly, schedule
from jaxsae.training.update import global_norm

N, D = 16, 6
MESHES = [(1, 1), (1, 8), (2, 4)]
MOMENTS = Moments(SPECS, SPECS, P())
on_meshes = pytest.mark.parametrize("shape", MESHES)


def gradients(steps=5):
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    return [Params.of(draw(N, D), draw(N), draw(N, D), draw(D)) for _ in range(steps)]


def on_mesh(function, shape, in_specs, out_specs):
    mesh = make_mesh(shape, jax.devices()[: shape[0] * shape[1]])
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False))


def directions(name, shape, decoder=1.0, **settings):
    """The directions of a few steps, and the last moments."""
    optimizer = make_optimizer(OptimizerConfig(optimizer=name, **settings), 3, Rates(swept, decoder=decoder))
    state = optimizer.init(gradients()[0])
    specs = MOMENTS if isinstance(state, Moments) else P()

    def device(gradient, state):
        return optimizer.update(gradient, state, first_row=jax.lax.axis_index(MODEL) * len(gradient.b_enc))

    update = on_mesh(device, shape, (SPECS, specs), (SPECS, specs))
    out = []
    for gradient in gradients():
        direction, state = update(gradient, state)
        out.append(direction)
    return out, state


@on_meshes
def test_adam_is_that_of_optax(shape):
    found, _ = directions("adam", shape, b1=0.8, b2=0.99, epsilon=1e-6)
    adam = optax.scale_by_adam(0.8, 0.99, 1e-6)
    state = adam.init(gradients()[0])
    for gradient, direction in zip(gradients(), found, strict=True):
        expected, state = adam.update(gradient, state)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), direction, expected)


@on_meshes
def test_the_factored_second_moment_is_the_mean_square_of_a_row(shape):
    found, state = directions("adam_factored", shape, b1=0.9, b2=0.99)
    assert state.nu.W_enc.shape == state.nu.W_dec.shape == (N, 1) and state.nu.b_enc.shape == (N,)
    for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
        mu = nu = 0.0
        for count, (gradient, direction) in enumerate(zip(gradients(), found, strict=True), 1):
            g = getattr(gradient, name).astype(np.float64)
            square = (g**2).mean(1, keepdims=True) if g.ndim == 2 else g**2
            mu, nu = 0.9 * mu + 0.1 * g, 0.99 * nu + 0.01 * square
            expected = mu / (1 - 0.9**count) / (np.sqrt(nu / (1 - 0.99**count)) + 6.25e-10)
            np.testing.assert_allclose(getattr(direction, name), expected, rtol=2e-5, atol=1e-6, err_msg=name)


def test_sign_keeps_the_sign_alone():
    found, _ = directions("sign", (1, 8))
    jax.tree.map(lambda d, g: np.testing.assert_array_equal(d, np.sign(g)), found[2], gradients()[2])


@pytest.mark.parametrize("name", ["adam", "adam_bf16", "adam_factored", "sign"])
def test_decoder_rows_have_a_rate_of_their_own(name):
    plain, _ = directions(name, (1, 1))
    for factor, settings in ((1 if name == "sign" else 4, {}), (2.5, {"decoder_rate": 2.5})):
        found, _ = directions(name, (1, 1), decoder=4.0, **settings)
        for ours, theirs in zip(found, plain, strict=True):
            np.testing.assert_allclose(ours.W_dec, factor * theirs.W_dec, rtol=1e-6)
            np.testing.assert_array_equal(ours.W_enc, theirs.W_enc)
            np.testing.assert_array_equal(ours.b_dec, theirs.b_dec)


@on_meshes
def test_bfloat16_moments_give_adam_within_their_precision(shape):
    found, state = directions("adam_bf16", shape)
    exact, _ = directions("adam", shape)
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves((state.mu, state.nu)))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
        np.testing.assert_allclose(a, b, rtol=0.05, atol=0.05)
    assert not np.array_equal(found[3].W_enc, exact[3].W_enc)


def rounded(x, shape=(1, 1), seed=3, step=7):
    """`x` as the W_enc of a tree that is rounded on a mesh."""

    def device(x):
        tree = Params.of(W_enc=x, b_enc=x[:, 0], W_dec=x, b_dec=x[0])
        return round_randomly(tree, seed, jnp.int32(step), jax.lax.axis_index(MODEL) * len(x)).W_enc

    return np.asarray(on_mesh(device, shape, P(MODEL, None), P(MODEL, None))(x).astype(jnp.float32))


def test_random_rounding_is_unbiased_and_to_a_neighbour():
    x = np.repeat(np.float32([1.0003, -2.7182817, 3.3e-7, 1.0039062]), 40_000).reshape(4, -1)
    found = rounded(x).astype(np.float64)
    for row, value in zip(found, x[:, 0].astype(np.float64), strict=True):
        below, above = np.unique(row)
        assert below < value < above or value in (below, above)
        noise = (above - below) / np.sqrt(row.size)
        assert abs(row.mean() - value) < 3 * noise
        assert above - below <= abs(value) / 127


def test_random_rounding_keeps_what_bfloat16_holds_and_what_is_not_finite():
    x = np.float32([0, 1, -2.5, 256, np.inf, -np.inf, np.nan])[None]
    np.testing.assert_array_equal(rounded(x), x)


def test_random_rounding_depends_on_seed_step_and_place_alone():
    x = np.full((16, 64), 1.003, np.float32)
    first = rounded(x)
    np.testing.assert_array_equal(first, rounded(x))
    for shape in ((1, 8), (2, 4)):
        np.testing.assert_array_equal(first, rounded(x, shape))
    assert not np.array_equal(first, rounded(x, seed=4)) and not np.array_equal(first, rounded(x, step=8))
    assert not np.array_equal(first[0], first[1]) and not np.array_equal(first[:, 0], first[:, 1])


@pytest.mark.parametrize("shape", [(1, 8), (2, 4)])
def test_bfloat16_moments_do_not_depend_on_the_mesh(shape):
    (one, state), (other, other_state) = directions("adam_bf16", (1, 1)), directions("adam_bf16", shape)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(other_state), strict=True):
        assert np.mean(np.asarray(a) == np.asarray(b)) > 0.95  # a last bit before rounding may differ by the program
    for leaf in jax.tree.leaves(other_state):
        if leaf.sharding.is_fully_replicated:
            assert len({np.asarray(part.data).tobytes() for part in leaf.addressable_shards}) == 1
    for a, b in zip(jax.tree.leaves(one[1]), jax.tree.leaves(other[1]), strict=True):
        assert np.mean(np.isclose(a, b, rtol=1e-5, atol=1e-6)) > 0.95


@on_meshes
def test_the_global_norm_is_that_of_the_whole_gradient(shape):
    gradient = gradients()[0]
    whole = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(gradient)]).astype(np.float64)
    found = on_mesh(global_norm, shape, (SPECS,), P())(gradient)
    np.testing.assert_allclose(found, np.linalg.norm(whole), rtol=1e-6)


def test_the_schedule_rises_stays_and_falls_to_its_last_step():
    rate = schedule(OptimizerConfig(warmup_fraction=0.1, decay_fraction=0.2), peak=2.0, steps=100)
    found = np.array([rate(np.int32(step)) for step in range(101)])
    np.testing.assert_allclose(found[[0, 4, 9]], [0.2, 1.0, 2.0], rtol=1e-6)
    np.testing.assert_allclose(found[9:81], 2.0, rtol=1e-6)
    np.testing.assert_allclose(found[[81, 90, 99, 100]], [1.9, 1.0, 0.1, 0.0], rtol=1e-5)


def test_a_schedule_without_warm_up_and_decay_is_constant():
    rate = schedule(OptimizerConfig(warmup_fraction=0.0, decay_fraction=0.0), peak=0.5, steps=3)
    assert [float(rate(np.int32(step))) for step in range(3)] == [0.5] * 3


def test_the_default_rate_falls_with_d_model_width_and_steps():
    rate = lambda d, width, steps: make_method(MethodConfig(width=width)).rates.peak(width, d, steps)
    assert rate(64, 2048, 1000) == 7.5e-3 and rate(64, 2048, 16_000) == pytest.approx(3.75e-3)
    assert rate(64, 2048, 1) == rate(64, 2048, 100) == pytest.approx(7.5e-3 * 10**0.25)
    assert rate(64, 32_768, 1000) == pytest.approx(3.75e-3) and rate(256, 1024, 2000) == pytest.approx(3.75e-3)


def test_the_peak_rate_is_the_flag_or_the_methods_own():
    assert peak_rate(OptimizerConfig(learning_rate=0.1), 1e-4, 2**14) == 0.1
    assert peak_rate(OptimizerConfig(), 1e-4, 2**14) == 1e-4
    assert peak_rate(OptimizerConfig(optimizer="sign"), 1e-4, 2**16) == pytest.approx(2.5e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"b1": 1.5},
        {"b1": 1.0},
        {"b2": 1.0},
        {"b2": -0.1},
        {"learning_rate": 0.0},
        {"clip_norm": -1.0},
        {"epsilon": 0.0},
        {"decay_fraction": 0.99},
    ],
)
def test_settings_that_make_no_sense_are_refused(changes):
    (name,) = changes
    with pytest.raises(InputError, match=f"--{name}={changes[name]}"):
        OptimizerConfig(**changes)
