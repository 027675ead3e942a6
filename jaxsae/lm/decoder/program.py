"""Device programs over a mesh, compiled once for the weights that they are given."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
from jax.sharding import Mesh


def over_mesh(device: Callable, mesh: Mesh, in_specs: tuple, out_specs: Any) -> Callable:
    """A device program of (weights, ...) over the mesh; `in_specs` are those of what follows the weights."""

    def run(weights: Any, *rest: Any) -> Any:
        return _compiled(device, mesh, Static(specs_of(weights)), in_specs, out_specs)(weights, *rest)

    return run


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
