"""The step beside that of sparsify's module, in its trainer's order of things, from one start on the same batches.

They agree to rounding once what differs by decision is made equal, and each of those decisions is named here:

- the loss is divided by the mean square of all rows, a constant; sparsify divides by the variance of each batch;
- b_dec starts at the mean of the store (0 where rows are centred); sparsify's at the mean of the first batch;
- the encoder starts at a length fitted to rows (`training/start.py`); sparsify's at torch's default, 0.58;
- the decoder's rows have a rate of their own (`training/optimizer.py`); sparsify's have that of all else;
- Adam's epsilon is that of 2406.04093; sparsify has torch's 1e-8;
- AuxK's loss is divided by the residual it models and reaches the encoder (2406.04093); sparsify divides it by the
  variance of the rows, and its encoder's backward pass drops it.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsae.dictionary import MethodConfig, Normalization, Widths, make_method
from jaxsae.parallel import make_mesh
from jaxsae.training.config import OptimizerConfig
from jaxsae.training.optimizer import make_optimizer, schedule
from jaxsae.training.state import abstract_state, create_state, make_init
from jaxsae.training.step import Pace, StepConfig, make_step

D, WIDTH, K, BATCH, STEPS, RATE = 16, 64, 4, 128, 60, 3e-3
EPSILON = 6.25e-10


@pytest.fixture(scope="module")
def batches():
    """float32 [STEPS, BATCH, D]: sparse sums of 48 directions, mean square about 1."""
    rng = np.random.default_rng(3)
    directions = rng.normal(size=(48, D))
    active = rng.random((STEPS * BATCH, 48)) * (rng.random((STEPS * BATCH, 48)) < 0.08)
    x = active @ directions
    x = (x - x.mean(0)) / x.std()
    return x.reshape(STEPS, BATCH, D).astype(np.float32)


@pytest.fixture
def coder(package):
    """make() -> sparsify's SparseCoder with its own start of seed 0."""
    package("sparsify")
    torch = pytest.importorskip("torch")
    from sparsify.config import SparseCoderConfig
    from sparsify.sparse_coder import SparseCoder

    def make():
        torch.manual_seed(0)
        return SparseCoder(D, SparseCoderConfig(num_latents=WIDTH, k=K, normalize_decoder=True), dtype=torch.float32)

    return make


def theirs(coder, batches, variance=None, epsilon=EPSILON):
    """Losses and weights after sparsify's trainer's steps; `variance` None: its own of each batch."""
    import torch

    adam = torch.optim.Adam(coder.parameters(), lr=RATE, eps=epsilon)
    rates = schedule(OptimizerConfig(), 1.0, STEPS)
    risen = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: float(rates(jnp.int32(step))))
    losses = []
    for x in batches:
        coder.set_decoder_norm_to_unit_norm()
        out = coder(torch.from_numpy(x), total_variance=variance and torch.tensor(variance))
        out.fvu.backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        adam.step()
        adam.zero_grad()
        risen.step()
        losses.append(float(out.fvu))
    coder.set_decoder_norm_to_unit_norm()
    weights = coder.encoder.weight, coder.encoder.bias, coder.W_dec, coder.b_dec
    return np.array(losses), [w.detach().numpy() for w in weights]


def ours(coder, batches):
    """The same of our step, from the same weights."""
    mesh = make_mesh((1, 1), jax.devices()[:1])
    method, config = (
        make_method(MethodConfig(width=WIDTH, k=K, aux_coefficient=0.0)),
        OptimizerConfig(epsilon=EPSILON, decoder_rate=1.0),
    )
    optimizer = make_optimizer(config, 0)
    init = make_init(method, optimizer, Widths.of(D), ema=False)
    state = create_state(init, 0, Normalization.identity(D), Widths.of(D), mesh)
    start = coder.encoder.weight, coder.encoder.bias, coder.W_dec, coder.b_dec
    start = [jnp.array(w.detach().numpy()) for w in start]
    state = state.replace(params=type(state.params).of(*start))
    step = make_step(
        method, optimizer, StepConfig(BATCH, Widths.of(D), aux=False), abstract_state(init, Widths.of(D), mesh), mesh
    )
    pace, losses = Pace(schedule(config, RATE, STEPS), np.int32(10**6)), []
    for x in batches:
        state, metrics = step(state, x, pace)
        losses.append(float(metrics.loss))
    p = state.params
    return np.array(losses), [np.asarray(w) for w in (p.W_enc, p.b_enc, p.W_dec, p.b_dec)]


def test_our_step_is_sparsifys_to_rounding(coder, batches):
    (losses, weights), (their_losses, their_weights) = ours(coder(), batches), theirs(coder(), batches, BATCH * D)
    assert losses[-1] < 0.7 * losses[0]
    np.testing.assert_allclose(losses[:20], their_losses[:20], rtol=1e-5)
    # A near tie that rounding decides otherwise grows from there on: the weights agree to a small part of what they moved.
    np.testing.assert_allclose(losses, their_losses, rtol=2e-3)
    start = coder().encoder.weight.detach().numpy()
    moved = np.linalg.norm(weights[0] - start)
    assert np.linalg.norm(weights[0] - their_weights[0]) < 0.01 * moved
    assert np.linalg.norm(weights[2] - their_weights[2]) < 0.01 * moved


@pytest.mark.parametrize("changed", [{"variance": None}, {"epsilon": 1e-8}], ids=["batch variance", "epsilon"])
def test_the_decisions_change_little(coder, batches, changed):
    """What is decided otherwise moves the last losses by less than a hundredth: it is no cause of another FVU."""
    losses, _ = ours(coder(), batches)
    their_losses, _ = theirs(coder(), batches, **{"variance": BATCH * D} | changed)
    if "variance" in changed:
        their_losses = their_losses * np.square(batches - batches.mean(1, keepdims=True)).mean((1, 2))
    change = abs(their_losses[-10:].mean() / losses[-10:].mean() - 1)
    assert 0 < change < 0.01, change
