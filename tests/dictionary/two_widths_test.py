"""What is written may be of another width than what is read: loss and gradients against dense float64."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dictionary.methods_test import BATCH, WARM, WIDTH, D, K, method_of, whole
from jax.sharding import PartitionSpec as P

from jaxsae.dictionary import SPECS, Batch, Params
from jaxsae.parallel import make_mesh
from jaxsae.training.routes import choose, loss_and_gradient
from jaxsae.training.update import UpdateRule


@pytest.mark.parametrize("products", [0, WIDTH])
@pytest.mark.parametrize("name", ["topk", "relu"])
def test_what_is_written_may_be_of_another_width_than_what_is_read(name, products):
    """Sites side by side: W_enc [n, d_in], W_dec [n, d_out], a bias of each; against dense float64."""
    d_out = 12
    rng = np.random.default_rng(4)
    draw = lambda *s: rng.normal(size=s).astype(np.float32)
    arrays = {"W_enc": draw(WIDTH, D), "b_enc": draw(WIDTH), "W_dec": draw(WIDTH, d_out)}
    shared = {"b_dec": draw(d_out)} | ({"b_pre": draw(D)} if name == "topk" else {})
    params, x, target = Params(arrays, shared), draw(BATCH, D), draw(BATCH, d_out)
    own = method_of(name, **({"aux_coefficient": 0.0} if name == "topk" else {}))
    rule = UpdateRule(own, None, blocked=True)
    mesh = make_mesh((1, 4), jax.devices()[:4])

    def device(params, x, target):
        mask = jnp.zeros(len(params.b_enc), bool)
        batch = Batch(x=x, dead=mask, rows=BATCH, step_fraction=0.25, target=target)
        loss, _, gradient = loss_and_gradient(own, rule, params, batch)
        return loss, whole(gradient, params)

    with mock.patch.object(choose, "widest_by_products", lambda *_: products):
        specs = dict(in_specs=(SPECS, P(), P()), out_specs=(P(), SPECS))
        loss, gradient = jax.jit(jax.shard_map(device, mesh=mesh, check_vma=False, **specs))(params, x, target)

    def dense(p):
        pre = (x - p["b_pre"] if name == "topk" else x) @ p["W_enc"].T + p["b_enc"]
        kept = pre >= jnp.sort(pre, 1)[:, -K][:, None] if name == "topk" else True
        z = jnp.where(kept & (pre > 0), pre, 0)
        error = ((target - z @ p["W_dec"] - p["b_dec"]) ** 2).sum()
        if name == "topk":
            return error / (BATCH * d_out)
        return (error + 5.0 * WARM * (z.sum(0) * jnp.linalg.norm(p["W_dec"], axis=1)).sum()) / BATCH

    with jax.enable_x64(True):
        wide = {n: jnp.asarray(a, jnp.float64) for n, a in (arrays | shared).items()}
        value, slopes = jax.value_and_grad(dense)(wide)
    np.testing.assert_allclose(loss, value, rtol=1e-5)
    for part, array in (gradient.latent | gradient.shared).items():
        np.testing.assert_allclose(array, slopes[part], rtol=1e-5, atol=1e-5 * np.abs(slopes[part]).max(), err_msg=part)
