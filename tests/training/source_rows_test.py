"""Stand-ins for a decoder's rows."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxsae.parallel import make_mesh
from jaxsae.training.source_rows import SourceRows, unit_rows


def test_gaussian_rows_have_the_mean_and_covariance_of_the_decoder():
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(20_000, 4)) * [3, 1, 1, 0.2] + [2, 0, 0, 0]).astype(np.float32)
    mesh = make_mesh((1, 1), jax.devices()[:1])
    made = SourceRows("run", jnp.asarray(rows), mesh, "gaussian", 0)._stand_ins(0, 20_000)
    wanted = unit_rows(rows).astype(np.float64)
    np.testing.assert_allclose(made.mean(0), wanted.mean(0), atol=0.02)
    np.testing.assert_allclose(np.cov(made.T), np.cov(wanted.T), atol=0.02)
