"""A decoder's logits at some positions, with what the host gives in place of its activations."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsae.lm.decoder import forward
from jaxsae.lm.decoder.lm import DecoderLM, check_sites
from jaxsae.lm.decoder.program import OverMesh
from jaxsae.lm.decoder.shape import Decoder
from jaxsae.lm.taps import Taps
from jaxsae.parallel import DATA, MODEL

_AT_ONCE = 512  # positions whose logits stand on the devices


def logits_at(
    lm: DecoderLM, tokens: np.ndarray, kept: np.ndarray, at: np.ndarray, replace: Mapping[str, np.ndarray]
) -> np.ndarray:
    """float32 [at.sum(), vocabulary], sequence after sequence.

    Args:
      tokens: int32 [B, T], -1 where there is none. kept, at: bool [B, T], positions that are replaced, and that are asked.
      replace: {site: float32 [positions kept, d]}.

    Raises:
      InputError: no such site; a token that the model has no embedding of.
    """
    if replace:
        check_sites(lm.shape, replace, "site")
    ids, mask = lm.put(tokens), lm.filled(kept)
    put = lambda x: jax.make_array_from_callback(x.shape, NamedSharding(lm.mesh, P(DATA, None, None)), x.__getitem__)
    rows = []
    for given in replace.values():
        whole = np.zeros((*ids.shape, given.shape[1]), np.float32)
        whole[: len(tokens), : tokens.shape[1]][kept] = given
        rows.append(put(whole))
    last = _stream(lm.shape, lm.mesh, tuple(replace))(lm.weights, ids, mask, tuple(rows))
    return _unembedded(lm, np.asarray(last)[: len(tokens), : tokens.shape[1]][at])


def _unembedded(lm: DecoderLM, rows: np.ndarray) -> np.ndarray:
    """float32 [N, vocabulary] of what leaves the last block, [N, d_model]."""
    out = np.empty((len(rows), lm.vocabulary), np.float32)
    program = _logits(lm.shape, lm.mesh)
    for first in range(0, len(rows), _AT_ONCE):
        some = rows[first : first + _AT_ONCE]
        padded = np.pad(some, ((0, _AT_ONCE - len(some)), (0, 0)))
        out[first : first + _AT_ONCE] = np.asarray(program(lm.weights, padded))[: len(some), : lm.vocabulary]
    return out


@lru_cache(32)
def _stream(shape: Decoder, mesh: Mesh, sites: tuple[str, ...]) -> OverMesh:
    """The compiled (weights, tokens, kept, stand-ins) -> the last block's stream [B, T, d], on every device."""

    def device(weights: Any, tokens: jax.Array, kept: jax.Array, rows: tuple[jax.Array, ...]) -> jax.Array:
        swap = {
            site: lambda x, new=new: jnp.where(kept[..., None], new, x) for site, new in zip(sites, rows, strict=True)
        }
        last = forward.stream(weights, shape, tokens, Taps(replace=swap))
        return jax.lax.all_gather(last, DATA, axis=0, tiled=True)

    wide = (P(DATA, None, None),) * len(sites)
    return OverMesh(device, mesh, (P(DATA, None), P(DATA, None), wide), P())


@lru_cache(32)
def _logits(shape: Decoder, mesh: Mesh) -> OverMesh:
    """The compiled (weights, [N, d]) -> logits [N, vocabulary and what fills it up], on every device."""

    def device(weights: Any, rows: jax.Array) -> jax.Array:
        return jax.lax.all_gather(forward.logits(weights, shape, rows), MODEL, axis=-1, tiled=True)

    return OverMesh(device, mesh, (P(),), P())
