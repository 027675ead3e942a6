"""Layouts of checkpoints that older versions wrote, and how today's state is read out of them.

Format 2 had the four parameters of a plain dictionary side by side, in no part (`dictionary.Params`).
"""

from typing import Any

import flax.struct
import jax

from jaxsae.dictionary import Params

FORMAT = 3  # that is written
READABLE = (2, FORMAT)
_NAMES = ("W_enc", "b_enc", "W_dec", "b_dec")


@flax.struct.dataclass
class _Flat:
    """Parameters as format 2 has them."""

    W_enc: Any
    b_enc: Any
    W_dec: Any
    b_dec: Any


def as_written(tree: Any, layout: int) -> Any:
    """A tree with `Params` in it, in the layout of a format.

    Raises:
      ValueError: format 2 has no place for a parameter that there is.
    """
    if layout == FORMAT:
        return tree

    def flat(node):
        if not isinstance(node, Params):
            return node
        arrays = node.latent | node.shared
        if extra := sorted(set(arrays) - set(_NAMES)):
            raise ValueError(f"format {layout} holds no {', '.join(extra)}")
        return _Flat(*(arrays[name] for name in _NAMES))

    return jax.tree.map(flat, tree, is_leaf=lambda node: isinstance(node, Params))


def as_used(tree: Any, layout: int) -> Any:
    """The inverse of `as_written`."""
    if layout == FORMAT:
        return tree
    whole = lambda node: Params.of(*(getattr(node, n) for n in _NAMES)) if isinstance(node, _Flat) else node
    return jax.tree.map(whole, tree, is_leaf=lambda node: isinstance(node, _Flat))
