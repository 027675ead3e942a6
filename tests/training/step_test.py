"""A step that sums its gradient block by block equals the step that forms it, which equals a dense reference elsewhere."""

import jax
import numpy as np
import pytest

from jaxsae.dictionary import MethodConfig, Normalization, Widths, make_method
from jaxsae.parallel import batch_sharding, make_mesh
from jaxsae.training import update
from jaxsae.training.config import OptimizerConfig
from jaxsae.training.optimizer import make_optimizer, schedule
from jaxsae.training.routes import choose, pairs
from jaxsae.training.state import abstract_state, create_state, make_init
from jaxsae.training.step import Pace, StepConfig, make_step

D, WIDTH, K, BATCH, STEPS = 8, 72, 6, 32, 4


def trained(shape, dead_tokens, **flags):
    """Parameters, moments and the last metrics after a few steps on fresh batches."""
    mesh = make_mesh(shape, jax.devices()[: shape[0] * shape[1]])
    method = make_method(MethodConfig(width=WIDTH, k=K, aux_k=8))
    optimizer = make_optimizer(OptimizerConfig(), 0)
    init = make_init(method, optimizer, Widths.of(D), ema=False)
    abstract = abstract_state(init, Widths.of(D), mesh)
    step = make_step(method, optimizer, StepConfig(BATCH, Widths.of(D), **flags), abstract, mesh)
    pace = Pace(schedule(OptimizerConfig(), 1e-2, 100), np.int32(dead_tokens))
    state = create_state(init, 0, Normalization.identity(D), Widths.of(D), mesh)
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        x = rng.normal(size=(BATCH, D)).astype(np.float32) + np.arange(D)
        state, metrics = step(state, jax.device_put(x, batch_sharding(mesh)), pace)
    return jax.device_get((state.params, state.moments.mu, metrics))


@pytest.mark.parametrize("shape", [(1, 1), (2, 4)])
@pytest.mark.parametrize("dead_tokens", [10**6, 40], ids=["no latent dead", "some dead"])
def test_pairs_and_a_formed_gradient_train_alike(shape, dead_tokens, monkeypatch):
    """Rows always travel here, and blocks are small, so that a shard has several and a rest."""
    monkeypatch.setattr(update, "MADE_NUMBERS", 7 * D)
    monkeypatch.setattr(choose, "rows_travel", lambda *_: True)
    monkeypatch.setattr(choose, "widest_by_products", lambda *_: 0)
    in_pairs, formed = trained(shape, dead_tokens), trained(shape, dead_tokens, clip_norm=1e30)
    assert (in_pairs[2].dead > 0) == (dead_tokens == 40)
    for found, expected in zip(jax.tree.leaves(in_pairs), jax.tree.leaves(formed), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


def test_the_two_are_different_programs(monkeypatch):
    """Otherwise the comparison above would say nothing."""
    monkeypatch.setattr(choose, "widest_by_products", lambda *_: 0)
    with monkeypatch.context() as formed:
        formed.setattr(update.UpdateRule, "takes_blocks", False)
        formed.setattr(pairs, "group", lambda *_: pytest.fail("pairs were grouped"))
        trained((1, 1), 10**6)
    monkeypatch.setattr(pairs, "group", lambda *_: (_ for _ in ()).throw(RuntimeError("grouped")))
    with pytest.raises(RuntimeError, match="grouped"):
        trained((1, 1), 10**6)


@pytest.mark.parametrize("shape", [(1, 1), (2, 4)])
def test_more_dead_latents_than_there_is_room_for_train_alike(shape, monkeypatch):
    """They go by pairs then, in a way of its own through the step."""
    roomy = trained(shape, 40)
    assert roomy[2].dead > 16
    for planned in (2, 12):  # on no device enough; on some
        monkeypatch.setattr(choose, "PLANNED", planned)
        monkeypatch.setattr(choose, "PLANNED_SHARE", 0.0)
        tight = trained(shape, 40)
        for found, expected in zip(jax.tree.leaves(tight), jax.tree.leaves(roomy), strict=True):
            np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)
