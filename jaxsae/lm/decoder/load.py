"""Streams the weights of a checkpoint to the devices that hold them: a host reads what its own devices get, part by part."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from jaxsae.errors import InputError
from jaxsae.lm.decoder.layout import HEADS, Layout, Leaf, head_of
from jaxsae.lm.decoder.shape import Decoder, Split
from jaxsae.lm.tensors import FLOATS, Tensor
from jaxsae.parallel import MODEL
from jaxsae.progress import Progress

_READERS = 4  # parts of weights that are read at once
_AT_ONCE = 4096  # rows of tables that are compared at once
# Tensors that say nothing of their own: masks and frequencies which older files have.
_IDLE = re.compile(r"(^|\.)(rotary_emb\.inv_freq|attn\.bias|attn\.masked_bias|attention\.bias|attention\.masked_bias)$")
_OTHER_SENSES = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")


def check_whole(shape: Decoder, tensors: Mapping[str, Tensor], model: str) -> None:
    """Raises `InputError` where a checkpoint lacks a weight of `shape`, has one of another shape or type, or one too many."""
    layout = Layout.of(shape, Split.of(shape, 1), tensors)
    missing = [leaf.tensor for leaf in layout.leaves() if leaf.tensor not in tensors]
    if missing:
        raise InputError(f"--model={model}: its files lack weights, {missing[0]} among {len(missing)}. Get them whole.")
    for leaf in layout.leaves():
        _check_shape(leaf, tensors[leaf.tensor], model)
    if more := left_over(layout, shape, tensors):
        raise InputError(
            f"--model={model}: {more[0]} in its files, one of {len(more)} tensors, is no weight that --backend=jax knows "
            f"of a {shape.family}. Take --backend=torch."
        )


def left_over(layout: Layout, shape: Decoder, names: Iterable[str]) -> list[str]:
    """Tensors of a checkpoint that belong to nothing in a layout."""
    used = {leaf.tensor for leaf in layout.leaves()}
    heads = HEADS if shape.tied else "\0"
    return sorted(
        name
        for name in set(names) - used
        if not _IDLE.search(name) and not name.startswith(_OTHER_SENSES) and not name.endswith(heads)
    )


def as_tied(shape: Decoder, tensors: Mapping[str, Tensor]) -> Decoder:
    """The shape, untied where a checkpoint has an unembedding that is not its embedding, whatever its config.json says.

    Args:
      tensors: those of a checkpoint that `check_whole` has seen.
    """
    head = head_of(tensors)
    if not shape.tied or head not in tensors:
        return shape
    embed = Layout.of(shape, Split.of(shape, 1), tensors).tree["embed"].tensor
    one, other = tensors[embed].mapped(), tensors[head].mapped()
    pieces = range(0, len(one), _AT_ONCE)
    same = one.shape == other.shape and all(
        np.array_equal(one[i : i + _AT_ONCE], other[i : i + _AT_ONCE]) for i in pieces
    )
    return dataclasses.replace(shape, tied=same)


def load(shape: Decoder, tensors: Mapping[str, Tensor], mesh: Mesh, dtype: Any, blocks: int | None = None) -> Any:
    """The tree of weights over `mesh`.

    Args:
      tensors: those of a checkpoint that `check_whole` has seen. blocks: of the first so many blocks alone, without what
        makes logits; None: all.
    """
    layout = Layout.of(shape, Split.of(shape, mesh.shape[MODEL]), tensors, blocks)
    total = sum(tensors[leaf.tensor].bytes for leaf in layout.leaves())
    with Progress(total, "weights", "B", scale=True) as bar, ThreadPoolExecutor(_READERS) as pool:

        def placed(leaf: Leaf) -> jax.Array:
            tensor = tensors[leaf.tensor]
            mapped = tensor.mapped()
            part = lambda index: leaf.read(mapped, index, np.dtype(dtype))
            out = jax.make_array_from_callback(leaf.shape, NamedSharding(mesh, leaf.spec), part)
            bar.advance(tensor.bytes)
            return out

        waiting = layout.map(lambda leaf: pool.submit(placed, leaf))
        return jax.tree.map(lambda future: future.result(), waiting)


def abstract(shape: Decoder, mesh: Mesh, dtype: Any, blocks: int | None = None) -> Any:
    """The tree's shapes and shardings, of a checkpoint and devices that need not be there."""
    layout = Layout.of(shape, Split.of(shape, mesh.shape[MODEL]), (), blocks)
    return layout.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=NamedSharding(mesh, leaf.spec)))


def _check_shape(leaf: Leaf, tensor: Tensor, model: str) -> None:
    """That a tensor is what its leaf, of an unsplit model, is made of."""
    empty = np.broadcast_to(np.zeros((), np.int8), tensor.shape)
    try:
        fits = leaf.view(empty).shape == leaf.shape
    except ValueError:
        fits = False
    if not fits:
        raise InputError(
            f"--model={model}: {leaf.tensor} is {list(tensor.shape)}, which does not fit its config.json: the weight that "
            f"is made of it is {list(leaf.shape)}."
        )
    if tensor.dtype not in FLOATS:
        raise InputError(
            f"--model={model}: {leaf.tensor} is in {tensor.dtype}: quantised weights are not implemented by --backend=jax. "
            "Take a checkpoint in bfloat16, float16 or float32."
        )
