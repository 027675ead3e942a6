"""Meshes are what was asked for, and the conjugate collectives have the gradients of the whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxsae.errors import InputError
from jaxsae.parallel import (
    DATA,
    MODEL,
    batch_sharding,
    check_divides,
    copy_to_data,
    copy_to_model,
    make_mesh,
    shardings,
    sum_over_data,
    sum_over_model,
)


def test_by_default_every_device_is_on_the_model_axis():
    assert make_mesh(()).shape == {"data": 1, "model": 8}
    assert make_mesh((4, 2)).shape == {"data": 4, "model": 2}
    assert make_mesh((), jax.devices()[:3]).shape == {"data": 1, "model": 3}


@pytest.mark.parametrize("shape", [(8,), (2, 2, 2), (0, 8), (-1, -8)])
def test_a_mesh_is_two_positive_numbers(shape):
    with pytest.raises(InputError, match="give two positive numbers, DATA,MODEL, such as --mesh=1,8"):
        make_mesh(shape)


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (4, 4)])
def test_a_mesh_has_as_many_devices_as_there_are(shape):
    with pytest.raises(InputError, match=f"needs {shape[0] * shape[1]} devices and there are 8"):
        make_mesh(shape)


def test_sizes_must_divide_and_the_next_that_does_is_named():
    mesh = make_mesh((2, 4))
    check_divides(mesh, 64, 10)
    with pytest.raises(InputError, match="--width=65 .*such as 68"):
        check_divides(mesh, 65, 10)
    with pytest.raises(InputError, match="--batch_size=11 .*such as 12"):
        check_divides(mesh, 64, 11)


def test_a_batch_lies_over_data_and_is_whole_on_every_model_shard():
    x = jax.device_put(np.arange(32).reshape(16, 2), batch_sharding(make_mesh((2, 4))))
    assert {shard.data.shape for shard in x.addressable_shards} == {(8, 2)}
    assert shardings(make_mesh((2, 4)), {"a": P(MODEL)})["a"].shard_shape((12,)) == (3,)


def test_gradients_through_the_collectives_are_those_of_the_whole():
    """y = sum over shards of f(x; w_shard), L = sum over rows: shards of w, and x, get their dense gradients."""
    rng = np.random.default_rng(0)
    x, w, b = (rng.normal(size=s).astype(np.float32) for s in ((8, 5), (12, 5), (5,)))

    def device(x, w, b):
        def loss(x, w, b):
            w, b = copy_to_data(w), copy_to_data(b)
            y = sum_over_model(jnp.tanh(copy_to_model(x) @ w.T) @ w) + b
            return jnp.square(y).sum()

        value, gradients = jax.value_and_grad(loss, (0, 1, 2))(x, w, b)
        return sum_over_data(value), gradients

    specs = (P(DATA), P(MODEL), P())
    run = jax.shard_map(device, mesh=make_mesh((2, 4)), in_specs=specs, out_specs=(P(), specs), check_vma=False)
    found, gradients = jax.jit(run)(x, w, b)
    dense = lambda x, w, b: jnp.square(jnp.tanh(x @ w.T) @ w + b).sum()
    np.testing.assert_allclose(found, dense(x, w, b), rtol=1e-5)
    for got, wanted in zip(gradients, jax.grad(dense, (0, 1, 2))(x, w, b), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)
