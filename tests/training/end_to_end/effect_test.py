"""The gradient through a model: by finite differences, by another library, on every mesh, in every route."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from training.end_to_end.conftest import BATCH, D

from jaxsae.dictionary import SPECS, Batch
from jaxsae.lm import libraries
from jaxsae.parallel import DATA
from jaxsae.training import setup as setups
from jaxsae.training.end_to_end.effect import with_slope
from jaxsae.training.end_to_end.texts import Text
from jaxsae.training.routes import loss_and_gradient, reconstruction
from jaxsae.training.state import state_specs
from jaxsae.training.step import in_trainer_units, make_update


def slope_of(setup, text, written):
    """The slope [B, d] of the weighed terms by what is put at the rows, and the weighed terms."""
    through = setup.through

    def device(weights, text, written):
        clean = through.effect.clean(weights, text)
        slope, terms = through.effect.slope(weights, text, clean, written, BATCH)
        return slope, through.effect.weighed(terms), through.effect.rows(clean, text)

    specs = (through.specs, Text.specs(), P(DATA, None)), (P(DATA, None), P(), P(DATA, None))
    run = jax.jit(jax.shard_map(device, mesh=setup.mesh, in_specs=specs[0], out_specs=specs[1], check_vma=False))
    return [np.asarray(x) for x in run(through.weights, text.put(setup.mesh), written)]


@pytest.mark.parametrize("model", ["llama", "games"])
def test_the_slope_is_that_of_finite_differences(model, end_to_end, games_store):
    flags = {"kl": 2.0, "later": ("resid_post.*", "mlp_out.2"), "later_weight": 0.5}
    store = {"store": games_store} if model == "games" else {}
    setup = setups.Setup.of(end_to_end(**flags, **store))
    text = setup.through.batches.batch(0)
    rows = slope_of(setup, text, np.zeros((BATCH, D), np.float32))[2]
    size = rows.std()
    here = rows + size * np.random.default_rng(0).normal(size=rows.shape).astype(np.float32)
    slope = slope_of(setup, text, here)[0]
    for seed in range(3):
        along = size * np.random.default_rng(seed).normal(size=here.shape).astype(np.float32)
        low, high = (slope_of(setup, text, here + sign * 0.002 * along)[1] for sign in (-1, 1))
        np.testing.assert_allclose((slope * along).sum(), (high - low) / 0.004, rtol=0.02, atol=1e-3)
    assert np.abs(slope).max() > 1e-4


def test_the_slope_is_that_of_torch(end_to_end, make_model):
    import torch

    setup = setups.Setup.of(end_to_end())
    text = setup.through.batches.batch(1)
    rng = np.random.default_rng(1)
    put = rng.normal(size=(BATCH, D)).astype(np.float32)
    slope, kl, rows = slope_of(setup, text, put)
    auto = libraries.import_transformers().AutoModelForCausalLM
    model = auto.from_pretrained(make_model("llama"), dtype=torch.float64).eval()
    ids = torch.tensor(np.maximum(text.tokens, 0).astype(np.int64))
    written = torch.tensor(put, dtype=torch.float64, requires_grad=True)
    seen = {}

    def replace(_, args, output):
        x = output[0] if isinstance(output, tuple) else output
        seen["x"] = x.reshape(-1, D)[text.rows]
        new = x.reshape(-1, D).index_copy(0, torch.tensor(text.rows.astype(np.int64)), written).reshape(x.shape)
        return (new, *output[1:]) if isinstance(output, tuple) else new

    with torch.no_grad():
        clean = model(ids, use_cache=False).logits.reshape(-1, 40)[text.rows].log_softmax(-1)
    model.model.layers[1].register_forward_hook(replace)
    spliced = model(ids, use_cache=False).logits.reshape(-1, 40)[text.rows].log_softmax(-1)
    expected = (clean.exp() * (clean - spliced)).sum(-1).mean()
    expected.backward()
    np.testing.assert_allclose(rows, seen["x"].detach(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(kl, expected.item(), rtol=1e-4)
    np.testing.assert_allclose(slope, written.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("mesh", [(2, 4), (1, 8), (4, 1)])
def test_the_slope_is_the_same_on_every_mesh(mesh, end_to_end):
    one, many = (setups.Setup.of(end_to_end(mesh=m, later=("resid_post.2",))) for m in ((1, 1), mesh))
    text = many.through.batches.batch(0)
    # A batch on one device: the sequences of all data shards behind each other.
    each, count = BATCH // mesh[0], text.tokens.size // mesh[0]
    shard = np.repeat(np.arange(mesh[0]), each)
    whole = Text(text.tokens, (text.rows + shard * count).astype(np.int32))
    put = np.random.default_rng(0).normal(size=(BATCH, D)).astype(np.float32)
    for a, b in zip(slope_of(one, whole, put), slope_of(many, text, put), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6)


PLAIN = ("topk", "batchtopk", "abstopk", "relu", "jumprelu", "gated")  # whose objective is one squared error
NESTED = ("matryoshka", "hierarchical_topk")


def gradient_of(setup, monkeypatch, route):
    """(state, x, function of (slope, own) -> loss and gradient) of a method by one route."""
    if route == "pairs":
        monkeypatch.setattr("jaxsae.training.routes.loss.route_of", lambda *_: "pairs")
    state, method = setup.fresh_state(), setup.method
    update = make_update(method, setup.program.optimizer, dataclasses.replace(setup.program.step_config, clip_norm=1.0))
    x = in_trainer_units(setup.read([(0, BATCH)]), state.mean, state.scale, "float32")

    def gradient(params, x, slope, own):
        batch = Batch(
            x=x, dead=jnp.zeros(params.b_enc.shape, bool), rows=BATCH, step_fraction=0.5, slope=slope, own=own
        )
        loss, _, found = loss_and_gradient(method, update, params, batch)
        y = method.base(params.shared, x) + reconstruction(method, params, batch)
        return loss, found, y

    def run(slope=None, own=1.0):
        one = partial(gradient, slope=slope, own=own)
        sharded = jax.shard_map(one, mesh=setup.mesh, in_specs=(SPECS, P()), out_specs=P(), check_vma=False)
        return jax.jit(sharded)(state.params, x)

    return x, run


ROUTES = [(name, "as chosen") for name in PLAIN] + [(name, "pairs") for name in ("topk", "batchtopk", "abstopk")]


@pytest.mark.parametrize("name, route", ROUTES)
def test_the_slope_of_the_squared_error_has_its_gradient(name, route, end_to_end, monkeypatch):
    setup = setups.Setup.of(end_to_end(architecture=name, kl=0.0))
    x, run = gradient_of(setup, monkeypatch, route)
    loss, expected, y = run()
    numbers = D if setup.method.objective.per_number else 1
    slope = 2 * (y - x) / (BATCH * numbers)
    without, found, _ = run(slope, own=0.0)
    assert without < loss  # the slope adds nothing to the value
    size = lambda tree: max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(tree))
    difference = jax.tree.map(jnp.subtract, found, expected)
    assert size(difference) < 1e-5 * size(expected)
    twice = jax.tree.map(lambda a, b: a - 2 * b, run(slope)[1], expected)
    assert name in ("relu", "jumprelu", "gated") or size(twice) < 1e-5 * size(expected)  # those have penalties besides


@pytest.mark.parametrize("name", NESTED)
@pytest.mark.parametrize("route", ["as chosen", "pairs"])
def test_the_slope_is_that_of_the_whole_reconstruction(name, route, end_to_end, monkeypatch):
    """<slope, x_hat> is linear in decoder rows and b_dec: its gradient by them is known exactly."""
    setup = setups.Setup.of(end_to_end(architecture=name, kl=0.0))
    _, run = gradient_of(setup, monkeypatch, route)
    slope = np.random.default_rng(0).normal(size=(BATCH, D)).astype(np.float32)
    (_, plain, y), (_, both, _) = run(), run(jnp.asarray(slope))
    params = setup.fresh_state().params
    added = jax.tree.map(jnp.subtract, both, plain)
    np.testing.assert_allclose(added.b_dec, slope.sum(0) + _by_input(added, setup, params), rtol=1e-3, atol=1e-3)
    made = (slope * (y - params.b_dec)).sum()
    np.testing.assert_allclose((added.W_dec * params.W_dec).sum(), made, rtol=1e-4)


def _by_input(gradient, setup, params):
    """What b_dec has besides, where it is subtracted from the input: -sum_i db_i W_enc,i."""
    return -(gradient.b_enc @ params.W_enc) if setup.method.pre_bias else 0.0


def test_only_the_rows_of_a_batch_are_replaced(end_to_end):
    setup = setups.Setup.of(end_to_end())
    text, through = setup.through.batches.batch(0), setup.through
    clean = lambda weights, text: through.effect.clean(weights, text)
    specs = through.specs, Text.specs()
    run = jax.jit(jax.shard_map(clean, mesh=setup.mesh, in_specs=specs, out_specs=P(), check_vma=False))
    found = run(through.weights, text.put(setup.mesh))
    rows = np.asarray(found.seen["resid_post.1"]).reshape(-1, D)[text.rows]
    slope, terms, read = slope_of(setup, text, rows)
    np.testing.assert_array_equal(read, rows)
    assert terms < 1e-9 and np.abs(slope).max() < 1e-6  # what stands there anyway changes nothing


def test_with_slope_is_in_the_trainers_units(end_to_end):
    setup = setups.Setup.of(end_to_end())
    state, through = setup.fresh_state(), setup.through
    text = through.batches.batch(0)

    def device(state, weights, text):
        clean = through.effect.clean(weights, text)
        y = in_trainer_units(through.effect.rows(clean, text), state.mean, state.scale, "float32")
        batch = Batch.of(y, setup.widths, dead=jnp.zeros(state.params.b_enc.shape, bool), rows=BATCH)
        batch, terms = with_slope(batch, through.effect, weights, text, clean, setup.method, state, setup.widths)
        made = state.params.b_dec + reconstruction(setup.method, state.params, batch)
        return batch.slope, made / state.scale + state.mean, terms.kl

    specs = (state_specs(setup.abstract), through.specs, Text.specs())
    run = jax.jit(jax.shard_map(device, mesh=setup.mesh, in_specs=specs, out_specs=P(), check_vma=False))
    slope, written, kl = run(state, through.weights, text.put(setup.mesh))
    expected, terms, _ = slope_of(setup, text, np.asarray(written))
    np.testing.assert_allclose(slope * state.scale, expected, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(kl, terms, rtol=1e-5)
