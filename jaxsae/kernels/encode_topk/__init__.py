"""The k largest pre-activations of each row, without the pre-activations ever standing whole."""

from jaxsae.kernels.encode_topk.above import encode_above
from jaxsae.kernels.encode_topk.api import encode_topk, merge_over_model
from jaxsae.kernels.encode_topk.batch import merge_over_batch
from jaxsae.kernels.encode_topk.bisect import merge_by_bisection
from jaxsae.kernels.encode_topk.by_layer import encode_by_layer
from jaxsae.kernels.encode_topk.by_size import encode_by_size

__all__ = [
    "encode_above",
    "encode_by_layer",
    "encode_by_size",
    "encode_topk",
    "merge_by_bisection",
    "merge_over_batch",
    "merge_over_model",
]
