"""The k largest pre-activations of each row, without the pre-activations ever standing whole."""

from jaxsae.kernels.encode_topk.above import encode_above
from jaxsae.kernels.encode_topk.api import encode_topk, merge_over_model
from jaxsae.kernels.encode_topk.batch import merge_over_batch

__all__ = ["encode_above", "encode_topk", "merge_over_batch", "merge_over_model"]
