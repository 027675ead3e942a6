"""Device programs over a mesh, compiled once for the weights that they are given."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
from jax.sharding import Mesh


class OverMesh:
    """A device program of (weights, ...) over the mesh; `in_specs` are those of what follows the weights."""

    def __init__(self, device: Callable, mesh: Mesh, in_specs: tuple, out_specs: Any):
        self._device, self._mesh, self._in, self._out = device, mesh, in_specs, out_specs

    def __call__(self, weights: Any, *rest: Any) -> Any:
        return self._of(weights)(weights, *rest)

    def lower(self, weights: Any, *rest: Any) -> jax.stages.Lowered:
        """For the compiler; weights and the rest may be shapes with shardings, over devices that are not there."""
        return self._of(weights).lower(weights, *rest)

    def _of(self, weights: Any) -> Callable:
        return _compiled(self._device, self._mesh, Static(specs_of(weights)), self._in, self._out)


def specs_of(weights: Any) -> Any:
    """The tree of their PartitionSpecs."""
    return jax.tree.map(lambda x: x.sharding.spec, weights)


class Static:
    """A tree that counts as one value among the arguments of a cached function."""

    def __init__(self, tree: Any):
        self.tree = tree
        self._key = (jax.tree.structure(tree), tuple(jax.tree.leaves(tree)))

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Static) and self._key == other._key


@lru_cache(32)
def _compiled(device: Callable, mesh: Mesh, specs: Static, in_specs: tuple, out_specs: Any) -> Callable:
    sharded = jax.shard_map(device, mesh=mesh, in_specs=(specs.tree, *in_specs), out_specs=out_specs, check_vma=False)
    return jax.jit(sharded)
