"""The device that a program is meant for, which need not be there."""

import jax
import jax.numpy as jnp
from jax.sharding import AbstractDevice, AbstractMesh

from jaxsae.parallel import make_mesh
from jaxsae.platform import Target, compiling_for, target, target_platform


def test_without_a_mesh_it_is_the_default_backend():
    assert target() == Target("cpu", jax.devices()[0].device_kind)


def test_inside_shard_map_it_is_the_meshs_device():
    mesh, seen = make_mesh((1, 8)), []

    def device(x):
        return jax.lax.fori_loop(0, 2, lambda _, y: seen.append(target_platform()) or y + 1, x)

    jax.jit(jax.shard_map(device, mesh=mesh, in_specs=jax.P("model"), out_specs=jax.P("model"))).lower(jnp.zeros(8))
    assert set(seen) == {"cpu"}


def test_a_device_that_is_not_there():
    class Absent:
        abstract_mesh = AbstractMesh((1,), ("model",), abstract_device=AbstractDevice("TPU v5", 2, "tpu"))

    with compiling_for(Absent):
        assert target() == Target("tpu", "TPU v5")
        assert jax.eval_shape(lambda x: jnp.zeros(3 if target_platform() == "tpu" else 2), 0).shape == (3,)
    assert target_platform() == "cpu"
