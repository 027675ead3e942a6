"""What a decoder computes: everything that its config.json decides, in the terms of the forward pass.

Heads, hidden numbers and vocabulary are split over the mesh's `model` axis, each filled up with zeros to a multiple of its
size: a head, a hidden number or a token of zeros adds nothing to any sum.
"""

import dataclasses
import math
from typing import Literal

BLOCK_SITES = ("resid_pre", "attn_out", "mlp_in", "mlp_out", "resid_post")


@dataclasses.dataclass(frozen=True)
class Rope:
    """Rotary positions (Su et al., 2104.09864) and how they are scaled.

    Attributes:
      kind: as `rope_type` of transformers. theta: base of the frequencies. rotated: numbers of a head that are turned.
      context: positions that the model was made for. settings: (name, value) of the kind's own.
    """

    kind: str
    theta: float
    rotated: int
    context: int
    settings: tuple[tuple[str, float | tuple[float, ...]], ...] = ()


@dataclasses.dataclass(frozen=True)
class Layer:
    """What may differ between blocks: the rotary positions, the window that is attended to (None: all before), and what
    scores are multiplied by."""

    rope: Rope | None
    window: int | None
    scale: float


@dataclasses.dataclass(frozen=True)
class Decoder:
    """The shape of a decoder.

    Attributes:
      family: `model_type` of config.json.
      hidden: numbers within an MLP. context: the most positions.
      norm: rms (times `1 + weight` where `norm_offset`) or layer. qk_norm: whether queries and keys are normalised.
      post_norms: whether what a block adds is normalised, too. parallel: whether attention and MLP read the same stream.
      gated: whether the MLP is act(gate x) * up x, else act(up x).
      attention_cap, logit_cap: c of c tanh(x / c), None where there is none.
      embedding_scale: what embeddings are multiplied by. learned_positions: whether positions have embeddings.
      tied: whether the unembedding is the embedding.
      qkv_bias, out_bias, mlp_bias: whether queries, keys and values, what attention gives, and an MLP's products have one.
    """

    family: str
    vocabulary: int
    d_model: int
    heads: int
    kv_heads: int
    d_head: int
    hidden: int
    context: int
    layers: tuple[Layer, ...]
    activation: str
    norm: Literal["rms", "layer"]
    epsilon: float
    norm_offset: bool = False
    qk_norm: bool = False
    post_norms: bool = False
    parallel: bool = False
    gated: bool = True
    attention_cap: float | None = None
    logit_cap: float | None = None
    embedding_scale: float = 1.0
    learned_positions: bool = False
    tied: bool = False
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False

    @property
    def sites(self) -> tuple[str, ...]:
        """All site names, in the order of the forward pass."""
        return ("embed", *(f"{name}.{layer}" for layer in range(len(self.layers)) for name in BLOCK_SITES))

    def blocks_for(self, sites: tuple[str, ...]) -> int:
        """How many blocks a pass runs through that ends at the last of some sites."""
        number = lambda site: -1 if site == "embed" else int(site.rpartition(".")[2])
        return max(map(number, sites), default=-1) + 1


@dataclasses.dataclass(frozen=True)
class Split:
    """How a decoder is split over `shards`.

    Attributes:
      copies: of each key head, which then serves fewer queries, so that every shard has the same number.
      groups: key heads with their copies and those of zeros, over all shards. queries: of each.
      hidden, vocabulary: with what fills them up.
    """

    shards: int
    copies: int
    groups: int
    queries: int
    hidden: int
    vocabulary: int

    @classmethod
    def of(cls, shape: Decoder, shards: int) -> "Split":
        """The split with the fewest heads of zeros, and then the fewest copies."""
        up = lambda n: -(-n // shards) * shards
        each = shape.heads // shape.kv_heads
        ways = [c for c in range(1, each + 1) if each % c == 0]
        copies = min(ways, key=lambda c: (up(shape.kv_heads * c) * each // c, c))
        groups = up(shape.kv_heads * copies)
        return cls(shards, copies, groups, each // copies, up(shape.hidden), up(shape.vocabulary))


def root(x: float) -> float:
    """1 / sqrt(x), what scores are multiplied by."""
    return 1 / math.sqrt(x)
