"""Hooks of flax nnx models, the GPT in the box and one of the test's own, against the same done by hand; under jit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from python.small import make_dictionary

from jaxsae import hooks
from jaxsae.errors import InputError
from jaxsae.lm.gpt import GPTConfig, init

D, IDS = 16, np.arange(2 * 7).reshape(2, 7)


class Layer(nnx.Module):
    """Two outputs, as some have."""

    def __init__(self, rngs: nnx.Rngs):
        self.linear = nnx.Linear(D, D, rngs=rngs)

    def __call__(self, x):
        return jnp.tanh(self.linear(x)), x.sum()


class Model(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.embedding, self.layers = nnx.Embed(20, D, rngs=rngs), nnx.List([Layer(rngs) for _ in range(3)])

    def __call__(self, tokens):
        x = self.embedding(tokens)
        for layer in self.layers:
            x = x + layer(x)[0]
        return x


@pytest.fixture(scope="module")
def gpt():
    model = init(GPTConfig(vocabulary=20, context=8, layers=2, d_model=D, heads=2), seed=0)
    model.embedding[...] = 15 * model.embedding[...]  # so that latents fire
    return model


@pytest.fixture(scope="module")
def own():
    return Model(nnx.Rngs(0))


def run_of(model, jit):
    return nnx.jit(lambda model, tokens: model(tokens))(model, jnp.asarray(IDS)) if jit else model(IDS)


@pytest.mark.parametrize(("architecture", "jit"), [("topk", False), ("batchtopk", True), ("jumprelu", True)])
def test_the_gpt_in_the_box_is_hooked_by_names(gpt, architecture, jit):
    sae = make_dictionary(architecture, d=D, site="resid_post.0")
    plain, seen = gpt(IDS, read=["resid_post.0"])
    x = seen["resid_post.0"]
    by_hand = lambda new: gpt(IDS, replace={"resid_post.0": lambda _: new})[0]
    dense = np.asarray(sae.encode(x).dense(sae.width))
    a, b = (int(i) for i in np.argsort(-(dense != 0).sum((0, 1)))[:2])
    f, rows = dense[..., [a, b]], np.asarray(sae.params.W_dec)[[a, b]]
    assert 0 < (f != 0).sum() < f.size
    for context, new in (
        (hooks.splice(gpt, sae), sae.reconstruct(x)),
        (hooks.splice(gpt, sae, error=True), x),
        (hooks.ablate(gpt, sae, [a, b]), x - f @ rows),
        (hooks.steer(gpt, sae, {a: 2.0, b: -1.0}), x + np.float32([2, -1]) @ rows),
        (hooks.steer(gpt, sae, {a: 2.0, b: 0.5}, clamp=True), x + (np.float32([2, 0.5]) - f) @ rows),
    ):
        with context:
            found, _ = run_of(gpt, jit)
        np.testing.assert_allclose(found, by_hand(new), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(gpt(IDS)[0], plain)


def test_a_program_that_was_compiled_before_sees_them_and_forgets_them(gpt, own):
    run = nnx.jit(lambda model, tokens: model(tokens))
    sae = make_dictionary(d=D, site="embedding")
    before = run(own, IDS)
    with hooks.steer(own, sae, {3: 5.0}):
        assert np.abs(run(own, IDS) - before).max() > 0.1
        graph, state = nnx.split(own)
        inside = jax.jit(lambda state, tokens: nnx.merge(graph, state)(tokens))(state, IDS)
        np.testing.assert_allclose(inside, run(own, IDS), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(run(own, IDS), before)

    @jax.jit
    def whole(tokens):
        with hooks.ablate(gpt, make_dictionary(d=D, site="resid_post.0"), 3):
            return gpt(tokens)[0]

    with hooks.ablate(gpt, make_dictionary(d=D, site="resid_post.0"), 3):
        np.testing.assert_allclose(whole(IDS), gpt(IDS)[0], rtol=1e-4, atol=1e-4)


def test_any_module_is_hooked_by_its_path(own):
    sae, layers = make_dictionary(d=D, site="not a path"), own.layers
    x0 = own.embedding(IDS)
    x1 = x0 + layers[0](x0)[0]
    end = lambda x: x + layers[2](x)[0]
    with hooks.splice(own, sae, site="layers.1"):  # the first of what it gives
        found = own(IDS)
    np.testing.assert_allclose(found, end(x1 + sae.reconstruct(layers[1](x1)[0])), rtol=1e-4, atol=1e-5)
    with hooks.splice(own, sae, site="layers.1.input"), hooks.read(own, "layers.1.input", "layers.1.linear") as seen:
        found = own(IDS)
    np.testing.assert_allclose(found, end(x1 + layers[1](sae.reconstruct(x1))[0]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(seen["layers.1.input"], sae.reconstruct(x1), rtol=1e-4, atol=1e-5)
    assert seen["layers.1.linear"].shape == (2, 7, D)
    assert type(own) is Model and all(type(layer) is Layer for layer in layers)


def test_a_transcoder_stands_in_the_mlps_place(gpt, own):
    sae = make_dictionary(d=D, transcode=True, reads=["mlp_in.1"], writes=["mlp_out.1"])
    _, seen = gpt(IDS, read=["mlp_in.1"])
    new = sae.reconstruct(seen["mlp_in.1"])
    with hooks.splice(gpt, sae):
        found = nnx.jit(lambda model: model(IDS)[0])(gpt)
    np.testing.assert_allclose(found, gpt(IDS, replace={"mlp_out.1": lambda _: new})[0], rtol=1e-4, atol=1e-5)
    with hooks.splice(own, sae, site=("layers.2.input", "layers.2.linear")), hooks.read(own, "layers.2.input") as seen:
        found = own(IDS)
    x = seen["layers.2.input"]
    np.testing.assert_allclose(found, x + jnp.tanh(sae.reconstruct(x)), rtol=1e-4, atol=1e-5)


def test_contexts_nest_outermost_first_what_the_caller_replaces_before(gpt):
    sae, other = (make_dictionary(d=D, site="resid_post.0", seed=seed) for seed in (0, 1))
    row = np.asarray(other.params.W_dec[3])
    x = gpt(IDS, read=["resid_post.0"])[1]["resid_post.0"]
    by_hand = lambda new: gpt(IDS, replace={"resid_post.0": lambda _: new})[0]
    expected = by_hand(sae.reconstruct(2 * x) + 4 * row)
    with hooks.splice(gpt, sae), hooks.steer(gpt, other, {3: 4.0}):
        found, seen = gpt(IDS, ["resid_post.0"], {"resid_post.0": lambda x: 2 * x})
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(seen["resid_post.0"], sae.reconstruct(2 * x) + 4 * row, rtol=1e-4, atol=1e-5)
    with pytest.raises(ZeroDivisionError), hooks.splice(gpt, sae), hooks.ablate(gpt, other, 3):
        raise ZeroDivisionError
    assert type(gpt).__name__ == "GPT" and not hasattr(type(gpt), "_jaxsae_hooks")


def test_positions(gpt):
    sae, mask = make_dictionary(d=D, site="embed"), np.random.default_rng(0).random(IDS.shape) < 0.5
    x = gpt(IDS, read=["embed"])[1]["embed"]

    def changed(jit=False, **where):
        run = lambda model, tokens: model(tokens, read=["embed"])[1]["embed"]
        with hooks.steer(gpt, sae, {3: 4.0}, **where):
            return np.asarray(((nnx.jit(run) if jit else run)(gpt, jnp.asarray(IDS)) != x).any(-1))

    assert changed().all()
    for jit in (False, True):
        np.testing.assert_array_equal(changed(jit, positions=mask), mask)
        np.testing.assert_array_equal(changed(jit, positions=slice(3, None)), np.stack([np.arange(7) > 2] * 2))
        np.testing.assert_array_equal(changed(jit, positions=lambda ids: ids > 5), IDS > 5)
        np.testing.assert_array_equal(changed(jit, special=[2, 9]), ~np.isin(IDS, (2, 9)))


def test_what_cannot_be_is_refused_in_a_sentence(gpt, own, capsys):
    run = jax.jit(lambda tokens: gpt(tokens)[0])
    run(IDS)
    with hooks.splice(gpt, make_dictionary(d=D, site="resid_post.0")):
        run(IDS)  # traced before
    assert "A jax.jit that closes over the model" in capsys.readouterr().err
    for model, sae, more, told in (
        (gpt, make_dictionary(d=D, site="resid_post.5"), {}, "resid_post.5: no such site"),
        (
            own,
            make_dictionary(d=D, site="resid_post.1"),
            {},
            "the path of one of this model's modules, such as embedding",
        ),
        (own, make_dictionary(d=D + 1, site="layers.1"), {}, "widths 16 and 16, and the dictionary 17"),
        (
            own,
            make_dictionary(d=D, transcode=True),
            {"site": ("layers.1", "layers.0")},
            "layers.1 comes after layers.0",
        ),
        (own, make_dictionary(d=D, site="layers.1"), {"error": np.zeros((1, D))}, r"error \[1, 16\]"),
    ):
        with pytest.raises(InputError, match=told), hooks.splice(model, sae, **more):
            model(IDS)
    assert type(own) is Model
