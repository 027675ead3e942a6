"""A reconstruction inside a device program is that of the dictionary, in all architectures, on any mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxsae.dictionary import ARCHITECTURES, SPECS, Dictionary, MethodConfig, Params, Widths, make_method
from jaxsae.dictionary.device import reconstruct
from jaxsae.parallel import make_mesh, shardings

D, WIDTH, ROWS = 16, 64, 24


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_it_is_that_of_the_dictionary(architecture):
    config = MethodConfig(width=WIDTH, k=6, architecture=architecture)
    method, rng = make_method(config), np.random.default_rng(0)
    init = method.init(jax.random.key(0), Widths.of(D))
    params = jax.tree.map(lambda a: a + 0.3 * rng.standard_normal(a.shape, np.float32), init)
    mesh = make_mesh((2, 4), jax.devices()[:8])
    params = jax.device_put(params, shardings(mesh, SPECS))
    made = Dictionary(params, config, mesh=mesh, threshold=1.0 if config.has_threshold else 0.0)
    x = rng.standard_normal((ROWS, D), np.float32)
    latents = made.encode(x)
    active = np.count_nonzero(latents.values, axis=1)
    assert active.min() > 0 and active.max() < WIDTH
    run = jax.shard_map(
        lambda params, floor, x: reconstruct(params, floor, x, method),
        mesh=mesh,
        in_specs=(SPECS, P(), P("data", None)),
        out_specs=P("data", None),
        check_vma=False,
    )
    found = jax.jit(run)(params, np.float32(made.threshold), x)
    np.testing.assert_allclose(found, made.decode(latents, x), rtol=1e-4, atol=1e-4)
    assert isinstance(params, Params) and jnp.isfinite(found).all()
