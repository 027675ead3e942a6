"""The approximate encoder: what it finds is true, how much it finds, and where it is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsae.errors import InputError
from jaxsae.kernels.encode_topk import approximate, encode_topk


def test_what_it_finds_has_its_true_value():
    rng = np.random.default_rng(0)
    x, w, b = (jnp.asarray(rng.integers(-3, 4, s), jnp.float32) for s in ((20, 8), (500, 8), (500,)))
    values, indices = jax.jit(lambda *a: approximate.select(*a, 16, 0.95))(x, w, b)
    np.testing.assert_array_equal(values, np.take_along_axis(x @ w.T + b, indices, 1))
    assert np.isnan(approximate.select(x.at[2, 0].set(jnp.nan), w, b, 16, 0.95)[0][2]).all()


@pytest.mark.parametrize("k", [32, 64])
@pytest.mark.parametrize("recall", [0.95, 0.99])
def test_its_bins_lose_no_more_than_it_says(k, recall, show):
    """XLA's number of bins, with the k best of 2^17 latents thrown on them at random, as a fused product is reduced."""
    sizes = jax.ShapeDtypeStruct((1, 2**17), jnp.float32)
    reduced = lambda z: jax.lax.approx_max_k(z, k, recall_target=recall, aggregate_to_topk=False)[0]
    bins = jax.eval_shape(reduced, sizes).shape[1]
    rng = np.random.default_rng(k)
    found = np.mean([len(np.unique(rng.integers(0, bins, k))) / k for _ in range(4000)])
    show(f"approximate encoder, k {k}, recall {recall} asked for: {bins:,} bins, {found:.4f} found")
    assert recall - 0.002 < found < 1


def test_it_is_refused_where_nothing_fuses_it():
    with pytest.raises(InputError, match="--encoder=approximate needs a TPU"):
        encode_topk(jnp.zeros((2, 4)), jnp.zeros((64, 4)), jnp.zeros(64), 2, "approximate")
