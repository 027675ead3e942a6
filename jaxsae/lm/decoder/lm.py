"""A decoder with its weights over a mesh: its activations read, and replaced, inside one compiled pass."""

from collections.abc import Collection, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsae.config import check
from jaxsae.errors import InputError
from jaxsae.lm.decoder import forward
from jaxsae.lm.decoder.families import shape_of
from jaxsae.lm.decoder.load import as_tied, check_whole, load
from jaxsae.lm.decoder.reader import Reader
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
          checkpoint: a `checkpoint.Checkpoint`. sites: where nothing else will be asked for, those whose activations are:
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
        self.dtype = chosen_dtype(checkpoint.options.model_dtype, tensors)
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
        return Reader(self, names, dtype).start(tokens, kept)()

    def put(self, tokens: np.ndarray, rows: int | None = None, longest: int | None = None) -> jax.Array:
        """Tokens [B, T], -1 where there is none, on the mesh; as `filled`.

        Raises:
          InputError: a token that the model has no embedding of, which would pass for zeros.
        """
        if tokens.max(initial=0) >= self.vocabulary:
            raise InputError(
                f"--model={self.name}: token {tokens.max()} is beyond its vocabulary of {self.vocabulary:,}."
            )
        return self.filled(np.maximum(tokens, 0), rows, longest)

    def filled(self, array: np.ndarray, rows: int | None = None, longest: int | None = None) -> jax.Array:
        """[B, T], the same in every process, on the mesh, filled up with zeros to a shape that passes are compiled for.

        Args:
          rows, longest: of the largest batch there is; a smaller one is filled up to so many sequences, and to no more
            than so many tokens.
        """
        data = self.mesh.shape[DATA]
        count, length = -(-max(len(array), rows or 0) // data) * data, self.compiled_length(array.shape[1], longest)
        whole = np.zeros((count, length), array.dtype)
        whole[: array.shape[0], : array.shape[1]] = array
        place = NamedSharding(self.mesh, P(DATA, None))
        return jax.make_array_from_callback(whole.shape, place, lambda index: whole[index])

    def compiled_length(self, length: int, longest: int | None = None) -> int:
        """The length that a sequence is filled up to, so that few are compiled: the next power of two, or what the
        `longest` there is comes to where that is less."""
        return compiled_length(self.shape, length, longest)


def compiled_length(shape: Decoder, length: int, longest: int | None = None) -> int:
    """As `DecoderLM.compiled_length`."""
    if any(layer.rope and layer.rope.kind in ("longrope", "dynamic") for layer in shape.layers):
        return length  # the frequencies hang on it
    most = shape.context
    if longest:
        step = _FEWEST_TOKENS if longest <= forward.QUERIES_AT_ONCE else forward.QUERIES_AT_ONCE
        most = min(most, -(-longest // step) * step)
    return max(length, min(most, max(_FEWEST_TOKENS, 1 << (length - 1).bit_length())))


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


def chosen_dtype(asked: str, tensors: Mapping[str, Tensor]) -> str:
    """What a model computes in: as asked, else bfloat16 on accelerators, else what its checkpoint is in."""
    if asked != "auto":
        return asked
    if target_platform() != "cpu":
        return "bfloat16"
    types = [t.dtype for t in tensors.values() if t.dtype in TYPES]
    return max(set(types), key=types.count, default="float32")
