"""What a training step costs: selection of latents, sparse decode and sparse gradients.

Every function here is the program of one device on its own shard of the latents, inside `jax.shard_map`
over the axes of `jaxsae.parallel`.
"""

from jaxsae.kernels.encode_topk import encode_above, encode_by_layer, encode_by_size, encode_topk, merge_over_model
from jaxsae.kernels.grouped import Grouped, PairList, group
from jaxsae.kernels.pairs import row_dots
from jaxsae.kernels.ranks import limited, of_best_rank
from jaxsae.kernels.select import Request, Selected
from jaxsae.kernels.sparse import (
    Taps,
    decode,
    encode,
    firings,
    of_whole_batch,
    pair_lists,
    rows_travel,
    tap,
    tap_rows,
    zero_taps,
)

__all__ = [
    "Grouped",
    "PairList",
    "Request",
    "Selected",
    "Taps",
    "decode",
    "encode",
    "encode_above",
    "encode_by_layer",
    "encode_by_size",
    "encode_topk",
    "firings",
    "group",
    "limited",
    "merge_over_model",
    "of_best_rank",
    "of_whole_batch",
    "pair_lists",
    "row_dots",
    "rows_travel",
    "tap",
    "tap_rows",
    "zero_taps",
]
