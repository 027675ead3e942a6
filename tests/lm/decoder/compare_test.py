"""Predictions compared with the vocabulary split over a mesh are those of float64 with all of it in one place."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxsae.lm.checkpoint import find
from jaxsae.lm.decoder import compare, forward
from jaxsae.lm.decoder.lm import DecoderLM
from jaxsae.lm.decoder.program import OverMesh
from jaxsae.lm.options import HFConfig
from jaxsae.lm.torch_lm import TorchLM
from jaxsae.parallel import make_mesh

ROWS, LENGTH = 4, 9
WIDE, FLAT = P("data", None, None), P("data", None)


@pytest.mark.parametrize("mesh", [(1, 1), (2, 3)])  # three shards of 40 tokens: the last is filled up
def test_sums_are_those_of_float64(mesh, make_model):
    checkpoint = find(make_model("gemma2"), HFConfig())
    lm = DecoderLM(checkpoint, make_mesh(mesh, jax.devices()[: mesh[0] * mesh[1]]))
    rng = np.random.default_rng(0)
    tokens, other = (rng.integers(0, 40, (ROWS, LENGTH)).astype(np.int32) for _ in range(2))
    asked, targets = rng.random((ROWS, LENGTH)) < 0.7, rng.integers(0, 40, (ROWS, LENGTH)).astype(np.int32)
    other[0] = tokens[0]  # nothing differs there

    def device(weights, tokens, other, asked, targets):
        x, y = (forward.stream(weights, lm.shape, t, lambda _, x: x) for t in (tokens, other))
        # What is not asked may be anything.
        y = jax.numpy.where(asked[..., None], y, np.nan)
        return compare.sums(weights, lm.shape, x, y, asked, targets)

    filled = [lm.filled(array) for array in (tokens, other, asked, targets)]
    found = OverMesh(device, lm.mesh, (FLAT,) * 4, P("data"))(lm.weights, *filled)
    logits = [TorchLM(checkpoint).logits(t, t >= 0).double().log_softmax(-1).numpy() for t in (tokens, other)]
    p, q = logits
    at = np.take_along_axis
    wanted = {
        "ce_original": -at(p, targets[..., None], 2)[..., 0],
        "ce": -at(q, targets[..., None], 2)[..., 0],
        "kl": (np.exp(p) * (p - q)).sum(-1),
        "same": p.argmax(-1) == q.argmax(-1),
    }
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name][:ROWS], np.where(asked, value, 0).sum(1), rtol=1e-5, atol=1e-5)
    assert abs(found["kl"][0]) < 1e-6 and found["kl"][1] > 1e-4
