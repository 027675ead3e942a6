"""What a dictionary computes of rows, as one program over its mesh: those of `device.py`, compiled once for each shape."""

from functools import lru_cache, partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxsae.dictionary import device
from jaxsae.dictionary.parameters import SKIP, SPECS, Latents
from jaxsae.errors import InputError
from jaxsae.kernels.products import product
from jaxsae.parallel import shardings

if TYPE_CHECKING:
    from typing import Any as Dictionary  # which imports this module


def encode(sae: "Dictionary", x: jax.Array) -> Latents:
    """Active latents [B, k] of rows float32 [B, d_in]; k as `Dictionary.encode` says."""
    if sae.config.k_of_a_row:
        return Latents(*_encoder(sae, sae.config.k)(sae.params, x))
    floor = floor_of(sae)
    most = int(_on_mesh(sae.mesh, device.count_active, 2, P(), method=sae.method)(sae.params, x, floor).max())
    values, indices = _encoder(sae, min(sae.width, 1 << max(most - 1, 0).bit_length()))(sae.params, x)
    if sae.method.ranks:
        return Latents(jnp.where(values <= floor, 0, values), indices)  # NaN stays
    return Latents(*_descending(values, indices))


def decode(sae: "Dictionary", values: jax.Array, indices: jax.Array, x: jax.Array | None) -> jax.Array:
    """Float32 [B, d_out] of latents [B, k] of rows x [B, d_in], which are needed where something skips the latents.

    Raises:
      InputError: they are not given.
    """
    y = _on_mesh(sae.mesh, device.decode, 2, P())(sae.params, values, indices)
    if SKIP not in sae.params.shared:
        return y
    if x is None:
        raise InputError("this dictionary has a map that skips its latents: decode(latents, x) needs what they are of")
    return y + product(x, sae.params.shared[SKIP], 1, 1)


def reconstruct(sae: "Dictionary", x: jax.Array) -> jax.Array:
    """Float32 [B, d_out] of rows [B, d_in]."""
    found = encode(sae, x)
    return decode(sae, found.values, found.indices, x)


def reconstruct_all(sae: "Dictionary", x: jax.Array) -> jax.Array:
    """The same from all latents' values at once, by one program for a shape of x."""
    return _on_mesh(sae.mesh, device.reconstruct, 2, P(), method=sae.method)(sae.params, floor_of(sae), x)


def values_of(sae: "Dictionary", x: jax.Array, latents: np.ndarray) -> jax.Array:
    """Float32 [B, m]: values of latents int32 [m] of rows [B, d_in], 0 where one is not active."""
    run = _on_mesh(sae.mesh, device.values_of, 3, P(), method=sae.method)
    return run(sae.params, floor_of(sae), x, latents)


def floor_of(sae: "Dictionary") -> jax.Array:
    """What active latents are above, where rows do not keep k each."""
    return jnp.float32(sae.threshold if sae.config.has_threshold else 0.0)


def _encoder(sae: "Dictionary", k: int):
    return _on_mesh(sae.mesh, device.encode, 1, (P(), P()), k=k, method=sae.method)


@lru_cache(64)
def _on_mesh(mesh: Mesh, function, extra_inputs: int, out_specs, **settings):
    """`function` of parameters and further inputs over `mesh`; dictionaries of one shape share what is compiled."""
    sharded = jax.shard_map(
        partial(function, **settings),
        mesh=mesh,
        in_specs=(SPECS, *[P()] * extra_inputs),
        out_specs=out_specs,
        check_vma=False,
    )
    return jax.jit(sharded, in_shardings=(shardings(mesh, SPECS), *[None] * extra_inputs))


def _descending(values: jax.Array, indices: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Lists by size: gates need not have its order."""
    order = jnp.argsort(-values, axis=1, stable=True)
    return jnp.take_along_axis(values, order, 1), jnp.take_along_axis(indices, order, 1)
