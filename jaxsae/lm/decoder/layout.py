"""Where each weight of a decoder stands: its shape, how it is split, and the tensor of a checkpoint that it is made of.

q [K, R, h, d], k and v [K, h, d], o [d, K, R, h] for K key heads of h numbers with R queries each; gate and up [f, d],
down [d, f]; embed and unembed [v, d].
"""

import dataclasses
from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
from jax.sharding import PartitionSpec as P

from jaxsae.lm.decoder.shape import Decoder, Split
from jaxsae.parallel import MODEL

HEADS = ("lm_head.weight", "embed_out.weight")
View = Callable[[np.ndarray], np.ndarray]
_SAME: View = lambda x: x


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A weight.

    Attributes:
      tensor: name in the checkpoint. shape: of the whole, with what fills it up. axis: that is split; None: all have it all.
      view: of the tensor, without a copy, in the order of `shape`. copies: of each of its parts along `axis`.
    """

    tensor: str
    shape: tuple[int, ...]
    axis: int | None = None
    view: View = _SAME
    copies: int = 1

    @property
    def spec(self) -> P:
        return P() if self.axis is None else P(*[None] * self.axis, MODEL)

    def read(self, tensor: np.ndarray, index: tuple[slice, ...], dtype: Any) -> np.ndarray:
        """The part at `index` of the weight, zeros where the tensor has nothing."""
        view = self.view(tensor)
        if self.axis is None:
            return np.asarray(view[index], dtype)
        places = np.arange(self.shape[self.axis])[index[self.axis]]
        there = places // self.copies < view.shape[self.axis]
        out = np.zeros([len(places) if i == self.axis else n for i, n in enumerate(self.shape)], dtype)
        found = np.take(view, places[there] // self.copies, self.axis)
        out[(*[slice(None)] * self.axis, slice(0, int(there.sum())))] = found
        return out


@dataclasses.dataclass(frozen=True)
class Layout:
    """The tree of a decoder's weights, {name: Leaf}, a list of such trees for its blocks."""

    tree: dict[str, Any]

    @classmethod
    def of(cls, shape: Decoder, split: Split, names: Collection[str], blocks: int | None = None) -> "Layout":
        """That of a checkpoint.

        Args:
          names: of its tensors. blocks: of the first so many blocks alone, without what makes logits; None: of all.
        """
        prefix = _prefix(shape.family, names)
        made = _FAMILIES[shape.family](shape, split, prefix, names)
        if blocks is None:
            return cls(made)
        head = {name: made[name] for name in ("embed", "positions") if name in made}
        return cls(head | {"blocks": made["blocks"][:blocks]})

    def leaves(self) -> list[Leaf]:
        """All of them."""
        found = [leaf for name, part in self.tree.items() if name != "blocks" for leaf in _flat(part)]
        return found + [leaf for block in self.tree["blocks"] for leaf in _flat(block)]

    def specs(self) -> dict[str, Any]:
        """The tree with each weight's PartitionSpec."""
        return self.map(lambda leaf: leaf.spec)

    def map(self, function: Callable[[Leaf], Any]) -> dict[str, Any]:
        """The tree with `function` of each leaf."""
        return _mapped(self.tree, function)


def _flat(part: Any) -> list[Leaf]:
    return [part] if isinstance(part, Leaf) else [leaf for inner in part.values() for leaf in _flat(inner)]


def _mapped(part: Any, function: Callable[[Leaf], Any]) -> Any:
    if isinstance(part, Leaf):
        return function(part)
    if isinstance(part, list):
        return [_mapped(inner, function) for inner in part]
    return {name: _mapped(inner, function) for name, inner in part.items()}


def _prefix(family: str, names: Collection[str]) -> str:
    """What stands before the names of a family: a checkpoint of several senses, or of a bare model, has its own."""
    table = _TABLES[family]
    return min((name.removesuffix(table) for name in names if name.endswith(table)), key=len, default="")


def head_of(names: Iterable[str], default: str = "lm_head.weight") -> str:
    """The unembedding's name, which stands behind a prefix in some checkpoints; `default` where there is none."""
    return next((name for name in names if name.endswith(HEADS)), default)


class _Maker:
    """Leaves of a shape and its split."""

    def __init__(self, shape: Decoder, split: Split):
        self.shape, self.split = shape, split

    def norm(self, name: str, width: int | None = None) -> dict[str, Leaf]:
        width = width or self.shape.d_model
        parts = ("weight", "bias") if self.shape.norm == "layer" else ("weight",)
        return {part: Leaf(f"{name}.{part}", (width,)) for part in parts}

    def table(self, name: str) -> Leaf:
        return Leaf(name, (self.split.vocabulary, self.shape.d_model), 0)

    def queries(self, tensor: str, parts: View = _SAME) -> dict[str, Leaf]:
        """q of [H h, d]; `parts` takes that, or of a bias [H h], out of a tensor that holds more."""
        s, h = self.split, self.shape.d_head
        view = lambda x: parts(x).reshape(-1, s.queries, h, *self._inputs(x))
        return self._with_bias("q", tensor, (s.groups, s.queries, h), view, 1)

    def keys(self, which: str, tensor: str, parts: View = _SAME) -> dict[str, Leaf]:
        """k or v of [K h, d], or of a bias [K h]."""
        s, h = self.split, self.shape.d_head
        view = lambda x: parts(x).reshape(-1, h, *self._inputs(x))
        return self._with_bias(which, tensor, (s.groups, h), view, s.copies)

    def mixed(self, tensor: str, view: View = _SAME) -> dict[str, Leaf]:
        """o of [d, H h]."""
        s, h, d = self.split, self.shape.d_head, self.shape.d_model
        heads = lambda x: view(x).reshape(d, -1, s.queries, h)
        leaf = Leaf(f"{tensor}.weight", (d, s.groups, s.queries, h), 1, heads)
        return {"o": leaf} | ({"o_bias": Leaf(f"{tensor}.bias", (d,))} if self.shape.out_bias else {})

    def wide(self, which: str, tensor: str, view: View = _SAME) -> dict[str, Leaf]:
        """gate or up of [f, d]."""
        out = {which: Leaf(f"{tensor}.weight", (self.split.hidden, self.shape.d_model), 0, view)}
        if self.shape.mlp_bias:
            out[f"{which}_bias"] = Leaf(f"{tensor}.bias", (self.split.hidden,), 0)
        return out

    def down(self, tensor: str, view: View = _SAME) -> dict[str, Leaf]:
        """down of [d, f]."""
        d = self.shape.d_model
        leaf = Leaf(f"{tensor}.weight", (d, self.split.hidden), 1, view)
        return {"down": leaf} | ({"down_bias": Leaf(f"{tensor}.bias", (d,))} if self.shape.mlp_bias else {})

    def _inputs(self, tensor: np.ndarray) -> tuple[int, ...]:
        """The last axis of a matrix, nothing of a bias."""
        return (self.shape.d_model,) if tensor.ndim == 2 else ()

    def _with_bias(self, name: str, tensor: str, shape: tuple[int, ...], view: View, copies: int) -> dict[str, Leaf]:
        out = {name: Leaf(f"{tensor}.weight", (*shape, self.shape.d_model), 0, view, copies)}
        if self.shape.qkv_bias:
            out[f"{name}_bias"] = Leaf(f"{tensor}.bias", shape, 0, view, copies)
        return out


def _llama(shape: Decoder, split: Split, prefix: str, names: Collection[str]) -> dict[str, Any]:
    make = _Maker(shape, split)

    def block(number: int) -> dict[str, Any]:
        at = f"{prefix}layers.{number}."
        out = {"attention_norm": make.norm(f"{at}input_layernorm")}
        out |= make.queries(f"{at}self_attn.q_proj") | make.mixed(f"{at}self_attn.o_proj")
        for which in "kv":
            out |= make.keys(which, f"{at}self_attn.{which}_proj")
        if shape.qk_norm:
            out |= {f"{n}_norm": make.norm(f"{at}self_attn.{n}_norm", shape.d_head) for n in "qk"}
        if shape.post_norms:
            out["post_attention_norm"] = make.norm(f"{at}post_attention_layernorm")
            out["mlp_norm"] = make.norm(f"{at}pre_feedforward_layernorm")
            out["post_mlp_norm"] = make.norm(f"{at}post_feedforward_layernorm")
        else:
            out["mlp_norm"] = make.norm(f"{at}post_attention_layernorm")
        out |= make.wide("gate", f"{at}mlp.gate_proj") | make.wide("up", f"{at}mlp.up_proj")
        return out | make.down(f"{at}mlp.down_proj")

    return {
        "embed": make.table(f"{prefix}embed_tokens.weight"),
        "blocks": [block(i) for i in range(len(shape.layers))],
        "final_norm": make.norm(f"{prefix}norm"),
    } | ({} if shape.tied else {"unembed": make.table(head_of(names))})


def _gpt_neox(shape: Decoder, split: Split, prefix: str, names: Collection[str]) -> dict[str, Any]:
    make, heads, h = _Maker(shape, split), shape.heads, shape.d_head
    third = lambda which: lambda x: x.reshape(heads, 3, h, *x.shape[1:])[:, which]

    def block(number: int) -> dict[str, Any]:
        at = f"{prefix}layers.{number}."
        both = f"{at}attention.query_key_value"
        out = {"attention_norm": make.norm(f"{at}input_layernorm")}
        out["mlp_norm"] = make.norm(f"{at}post_attention_layernorm")
        out |= make.queries(both, third(0)) | make.keys("k", both, third(1)) | make.keys("v", both, third(2))
        out |= make.mixed(f"{at}attention.dense") | make.wide("up", f"{at}mlp.dense_h_to_4h")
        return out | make.down(f"{at}mlp.dense_4h_to_h")

    return {
        "embed": make.table(f"{prefix}embed_in.weight"),
        "blocks": [block(i) for i in range(len(shape.layers))],
        "final_norm": make.norm(f"{prefix}final_layer_norm"),
    } | ({} if shape.tied else {"unembed": make.table(head_of(names, "embed_out.weight"))})


def _gpt2(shape: Decoder, split: Split, prefix: str, names: Collection[str]) -> dict[str, Any]:
    make, d = _Maker(shape, split), shape.d_model
    turned: View = lambda x: x.T  # its matrices are [in, out]

    def third(which: int) -> View:
        return lambda x: (x.T if x.ndim == 2 else x)[which * d : (which + 1) * d]

    def block(number: int) -> dict[str, Any]:
        at = f"{prefix}h.{number}."
        both = f"{at}attn.c_attn"
        out = {"attention_norm": make.norm(f"{at}ln_1"), "mlp_norm": make.norm(f"{at}ln_2")}
        out |= make.queries(both, third(0)) | make.keys("k", both, third(1)) | make.keys("v", both, third(2))
        out |= make.mixed(f"{at}attn.c_proj", turned) | make.wide("up", f"{at}mlp.c_fc", turned)
        return out | make.down(f"{at}mlp.c_proj", turned)

    return {
        "embed": make.table(f"{prefix}wte.weight"),
        "positions": Leaf(f"{prefix}wpe.weight", (shape.context, d)),
        "blocks": [block(i) for i in range(len(shape.layers))],
        "final_norm": make.norm(f"{prefix}ln_f"),
    } | ({} if shape.tied else {"unembed": make.table(head_of(names))})


_FAMILIES = dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text"), _llama) | {
    "gpt_neox": _gpt_neox,
    "gpt2": _gpt2,
}
_TABLES = dict.fromkeys(_FAMILIES, "embed_tokens.weight") | {
    "gpt_neox": "embed_in.weight",
    "gpt2": "wte.weight",
}
