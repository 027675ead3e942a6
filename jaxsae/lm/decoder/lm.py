"""A decoder with its weights over a mesh: its activations read, and replaced, inside one compiled pass."""

from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsae.config import check
from jaxsae.errors import InputError
from jaxsae.lm.decoder import forward
from jaxsae.lm.decoder.families import shape_of
from jaxsae.lm.decoder.load import as_tied, check_whole, load
from jaxsae.lm.decoder.shape import Decoder
from jaxsae.lm.tensors import Tensor
from jaxsae.parallel import DATA
from jaxsae.platform import target_platform

_FEWEST_TOKENS = 64  # of the shapes that passes are compiled for
TYPES = ("float32", "bfloat16", "float16")


class DecoderLM:
    """A causal language model.

    Attributes:
      name: as it was asked for, a directory from the root. shape: what it computes. mesh: where its weights are.
      dtype: that it computes in. weights: the tree of `layout`, over the mesh.
    """

    kind = "causal"

    def __init__(self, checkpoint: Any, mesh: Mesh, sites: Collection[str] | None = None):
        """Reads the weights.

        Args:
          checkpoint: a `load_torch.Checkpoint`. sites: where nothing else will be asked for, those whose activations are:
            blocks behind the last of them are not read.

        Raises:
          InputError: a configuration or weights that this backend does not implement, or weights that do not fit them.
        """
        self.name, self.mesh = checkpoint.name, mesh
        self.shape = shape_of(checkpoint.config, checkpoint.name)
        if sites is not None:
            self.widths(tuple(sites))
        tensors = checkpoint.tensors
        check_whole(self.shape, tensors, self.name)
        self.dtype = chosen_dtype(checkpoint.options.model_dtype, tensors, self.shape)
        if sites is None:
            self.shape = as_tied(self.shape, tensors)
        blocks = None if sites is None else self.shape.blocks_for(tuple(sites))
        self.weights = load(self.shape, tensors, mesh, self.dtype, blocks)

    @property
    def context(self) -> int:
        """The most positions."""
        return self.shape.context

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        return self.shape.vocabulary

    @property
    def layers(self) -> int:
        """Number of blocks."""
        return len(self.shape.layers)

    def widths(self, names: tuple[str, ...], flag: str = "sites") -> dict[str, int]:
        """d_model of each site; `flag` is what named them.

        Raises:
          InputError: no such site.
        """
        check_sites(self.shape, names, flag)
        return dict.fromkeys(names, self.shape.d_model)

    def read(self, tokens: np.ndarray, kept: np.ndarray, names: tuple[str, ...], dtype: str) -> dict[str, np.ndarray]:
        """Activations of some sites; as `TorchLM.read`, whose arguments and errors these are."""
        program = _reader(self.shape, self.mesh, names, dtype)
        out, finite = program(self.weights, self.put(tokens))
        (count, length), found = tokens.shape, {}
        for site, x in out.items():
            if not bool(finite[site]):  # what fills a batch up may be anything
                self._check_finite(site, np.asarray(x)[:count, :length][kept], dtype)
            found[site] = np.asarray(x)[:count, :length][kept]
        return found

    def put(self, tokens: np.ndarray) -> jax.Array:
        """Tokens [B, T], -1 where there is none, on the mesh, filled up to a shape that passes are compiled for."""
        data = self.mesh.shape[DATA]
        rows, length = -(-len(tokens) // data) * data, self.compiled_length(tokens.shape[1])
        whole = np.zeros((rows, length), np.int32)
        whole[: tokens.shape[0], : tokens.shape[1]] = np.maximum(tokens, 0)
        place = NamedSharding(self.mesh, P(DATA, None))
        return jax.make_array_from_callback(whole.shape, place, lambda index: whole[index])

    def compiled_length(self, length: int) -> int:
        """The length that a shorter sequence is filled up to, so that few are compiled: the next power of two."""
        if any(layer.rope and layer.rope.kind in ("longrope", "dynamic") for layer in self.shape.layers):
            return length  # the frequencies hang on it
        return min(self.context, max(_FEWEST_TOKENS, 1 << (length - 1).bit_length()))

    def _check_finite(self, site: str, rows: np.ndarray, dtype: str) -> None:
        if np.isfinite(rows).all():
            return
        where = f"Site {site} of {self.name}: Inf or NaN in its {self.dtype} activations as {dtype}"
        fix = "Take --dtype=bfloat16 or --dtype=float32 (and another --store, where shards of this one are complete)."
        if dtype != "float16":
            fix = "See that its weights are whole, or let it compute in another type: --model_dtype=float32."
        raise InputError(f"{where}. {fix}")


def check_sites(shape: Decoder, names: Collection[str], flag: str = "sites") -> None:
    """Raises `InputError` naming a site that there is none of, and those that there are."""
    there = set(shape.sites)
    last = len(shape.layers) - 1
    told = ", ".join(
        ["embed", *(f"{name}.0 to {name}.{last}" for name in ("resid_pre", "attn_out", "mlp_in", "mlp_out"))]
    )
    for name in names or ("",):
        fix = f"no such site. This model has: {told}, resid_post.0 to resid_post.{last}; modules' paths take --backend=torch"
        check(name in there, flag, name, fix)


def chosen_dtype(asked: str, tensors: Mapping[str, Tensor], shape: Decoder) -> str:
    """What a model computes in: as asked, else bfloat16 on accelerators, else what its checkpoint is in."""
    if asked != "auto":
        return asked
    if target_platform() != "cpu":
        return "bfloat16"
    types = [t.dtype for t in tensors.values() if t.dtype in TYPES]
    return max(set(types), key=types.count, default="float32")


def no_tap(site: str, x: jax.Array) -> jax.Array:
    """What reads and replaces nothing."""
    return x


@lru_cache(16)
def _reader(shape: Decoder, mesh: Mesh, names: tuple[str, ...], dtype: str) -> Callable:
    """The compiled (weights, tokens) -> {site: activations [B, T, d_model]}, {site: whether they are finite}."""

    def device(weights: Any, tokens: jax.Array) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        seen: dict[str, jax.Array] = {}

        def tap(site: str, x: jax.Array) -> jax.Array:
            if site in names:
                seen[site] = x.astype(dtype)
            return x

        forward.stream(weights, shape, tokens, tap)
        seen = {name: seen[name] for name in names}
        finite = {name: jax.lax.pmin(jnp.isfinite(x).all().astype(jnp.int32), DATA) for name, x in seen.items()}
        return seen, finite

    return over_mesh(device, shape, mesh, (P(DATA, None),), (P(DATA, None, None), P()))


def over_mesh(device: Callable, shape: Decoder, mesh: Mesh, in_specs: tuple, out_specs: Any) -> Callable:
    """A device program of (weights, ...) over the mesh, compiled for the weights that it is given."""

    def run(weights: Any, *rest: Any) -> Any:
        specs = jax.tree.map(lambda x: x.sharding.spec, weights)
        return _compiled(device, mesh, _Static(specs), in_specs, out_specs)(weights, *rest)

    return run


class _Static:
    """A tree that counts as one value among the arguments of a cached function."""

    def __init__(self, tree: Any):
        self.tree = tree
        self._key = (jax.tree.structure(tree), tuple(jax.tree.leaves(tree)))

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Static) and self._key == other._key


@lru_cache(32)
def _compiled(device: Callable, mesh: Mesh, specs: _Static, in_specs: tuple, out_specs: Any) -> Callable:
    sharded = jax.shard_map(device, mesh=mesh, in_specs=(specs.tree, *in_specs), out_specs=out_specs, check_vma=False)
    return jax.jit(sharded)
