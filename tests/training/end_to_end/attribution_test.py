"""The attribution penalty: the gradient of a text's loss by another library, and what attributions cost."""

import dataclasses

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
from jaxsae.training.end_to_end.texts import Text
from jaxsae.training.routes import loss_and_gradient
from jaxsae.training.step import in_trainer_units, make_update


def pull_of(setup, text):
    """The gradient [B, d] of the summed cross-entropy by the rows."""
    through = setup.through
    device = lambda weights, text: through.effect.clean(weights, text).pull
    specs, out = (through.specs, Text.specs()), P(DATA, None)
    run = jax.jit(jax.shard_map(device, mesh=setup.mesh, in_specs=specs, out_specs=out, check_vma=False))
    return np.asarray(run(through.weights, text.put(setup.mesh)))


@pytest.mark.parametrize("mesh", [(1, 1), (2, 4)])
def test_the_gradient_of_the_texts_loss_is_that_of_torch(mesh, end_to_end, make_model):
    import torch

    setup = setups.Setup.of(end_to_end(mesh=mesh, attribution=1.0))
    text = setup.through.batches.batch(0)
    found = pull_of(setup, text).reshape(mesh[0], -1, D)
    auto = libraries.import_transformers().AutoModelForCausalLM
    model = auto.from_pretrained(make_model("llama"), dtype=torch.float64).eval()
    seen = []
    model.model.layers[1].register_forward_hook(lambda _, args, out: seen.append(out) or out.retain_grad())
    for shard, tokens in enumerate(np.split(text.tokens, mesh[0])):
        ids = torch.tensor(np.maximum(tokens, 0).astype(np.int64))
        logits = model(ids, use_cache=False).logits[:, :-1].log_softmax(-1)
        there = torch.tensor(tokens[:, 1:] >= 0)
        logs = logits.gather(-1, ids[:, 1:, None])[..., 0]
        (-logs[there].sum()).backward()
        expected = seen.pop().grad.reshape(-1, D)[np.split(text.rows, mesh[0])[shard]]
        np.testing.assert_allclose(found[shard], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["topk", "batchtopk", "relu"])
def test_attributions_cost_what_they_say(name, end_to_end):
    """The loss has lambda times the mean over rows of sum_i |f_i W_dec,i . g| besides, its gradient by b_enc too."""
    setup = setups.Setup.of(end_to_end(architecture=name, kl=0.0))
    state, method = setup.fresh_state(), setup.method
    update = make_update(method, setup.program.optimizer, dataclasses.replace(setup.program.step_config, clip_norm=1.0))
    x = in_trainer_units(setup.read([(0, BATCH)]), state.mean, state.scale, "float32")
    pull = np.random.default_rng(0).normal(size=(BATCH, D)).astype(np.float32)

    def run(pull):
        def device(params, x):
            dead = jnp.zeros(params.b_enc.shape, bool)
            batch = Batch(x=x, dead=dead, rows=BATCH, step_fraction=0.5, pull=pull)
            return loss_and_gradient(method, update, params, batch)[::2]

        sharded = jax.shard_map(device, mesh=setup.mesh, in_specs=(SPECS, P()), out_specs=P(), check_vma=False)
        return jax.jit(sharded)(state.params, x)

    (plain, without), (loss, found) = run(None), run(jnp.asarray(pull))
    z = dense_latents(method, state.params, np.asarray(x))
    costs = np.abs(pull @ np.asarray(state.params.W_dec).T)
    np.testing.assert_allclose(loss - plain, (z * costs).sum() / BATCH, rtol=1e-4)
    by_bias = ((z > 0) * costs).sum(0) / BATCH
    np.testing.assert_allclose(found.b_enc - without.b_enc, by_bias, rtol=1e-3, atol=1e-5)


def dense_latents(method, params, x):
    """float64 [B, n] of a plain reading of the three methods."""
    pre = np.float64(x) - (np.float64(params.b_dec) if method.pre_bias else 0)
    pre = pre @ np.float64(params.W_enc).T + np.float64(params.b_enc)
    z = np.maximum(pre, 0)
    if method.name == "topk":
        z[z < np.sort(z, 1)[:, -method.selection.k, None]] = 0
    if method.name == "batchtopk":
        z[z < np.sort(z, None)[-method.selection.k * len(z)]] = 0
    return z
