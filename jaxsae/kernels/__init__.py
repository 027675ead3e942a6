"""What a training step costs: selection of latents, sparse decode and sparse gradients.

Every function here is the program of one device on its own shard of the latents, inside `jax.shard_map`
over the axes of `jaxsae.parallel`.
"""

from jaxsae.kernels.encode_topk import encode_topk, merge_over_model
from jaxsae.kernels.sparse import Request, Selected, decode, encode, fired

__all__ = ["Request", "Selected", "decode", "encode", "encode_topk", "fired", "merge_over_model"]
