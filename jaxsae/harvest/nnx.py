"""Activations of any flax nnx model on text, over the devices of a mesh."""

import dataclasses
import hashlib
import importlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsae.config import check
from jaxsae.errors import InputError
from jaxsae.harvest.config import HarvestConfig
from jaxsae.harvest.hf import read_text, text_plan
from jaxsae.harvest.text_source import TextSource
from jaxsae.parallel import DATA, make_mesh

Read = Callable[[nnx.Module, jax.Array, tuple[str, ...]], Mapping[str, jax.Array]]


@dataclasses.dataclass(frozen=True)
class NNXModel:
    """What a harvest needs of a flax nnx model; `--model=MODULE:FUNCTION` names a function that returns one.

    Attributes:
      model: with its weights. Those that lie on one device are copied to all; a sharding of your own is kept.
      read: (model, tokens int32 [B, T], sites) -> {site: [B, T, d_model]}, for jax.jit. Sequences are filled up with
        token 0 at their end, which a causal model does not look at; rows of it are dropped.
      sites: names of the activations that there are.
      vocabulary: number of tokens.
      context: the most positions, None where there is no limit.
    """

    model: nnx.Module
    read: Read
    sites: tuple[str, ...]
    vocabulary: int
    context: int | None = None


def open_nnx(config: HarvestConfig) -> TextSource:
    """The source of `--source=nnx`.

    Raises:
      InputError: no such function, site or text; a mesh or a batch that does not fit the devices.
    """
    found = _build(config.model)
    sites = config.sites or tuple(found.sites)
    for site in sites:
        check(site in found.sites, "sites", site, f"no such site. This model has: {', '.join(found.sites)}")
    # Each process makes shards of its own, so its mesh is of its own devices.
    mesh = make_mesh(config.mesh or (len(jax.local_devices()), 1), jax.local_devices())
    batch = config.forward_batch
    data = mesh.shape[DATA]
    check(batch % data == 0, "batch_size", batch, f"must be a multiple of the {data} data shards")
    if all(entry.endswith(".npy") for entry in config.corpus.text):
        tokenizer = ""
    else:
        tokenizer = config.corpus.tokenizer
        check(bool(tokenizer), "tokenizer", "", "--source=nnx needs one to read text; or give a .npy file of token ids")
    sequences, told = read_text(config.corpus, batch, config.tokens, tokenizer, found.vocabulary, found.context)
    graph, state = nnx.split(found.model)
    state = jax.tree.map(lambda leaf: _placed(leaf, mesh), state)
    dtype = jnp.dtype(config.dtype)

    def forward(state: Any, tokens: jax.Array) -> dict[str, jax.Array]:
        read = found.read(nnx.merge(graph, state), tokens, sites)
        return {site: read[site].astype(dtype) for site in sites}

    rows = NamedSharding(mesh, P(DATA, None))
    shape = jax.ShapeDtypeStruct((batch, sequences.context), jnp.int32, sharding=rows)
    widths = _widths(jax.eval_shape(forward, state, shape), sites, shape.shape)
    run = jax.jit(forward)

    def read(tokens: np.ndarray, kept: np.ndarray) -> dict[str, np.ndarray]:
        whole = np.zeros(shape.shape, np.int32)  # one shape, compiled once
        whole[: tokens.shape[0], : tokens.shape[1]] = np.maximum(tokens, 0)
        out = run(state, jax.device_put(whole, rows))
        return {site: np.asarray(x)[: tokens.shape[0], : tokens.shape[1]][kept] for site, x in out.items()}

    settings = {"source": "nnx", "weights": _fingerprint(state)}
    return TextSource(
        text_plan(config, widths, config.model, found.vocabulary, sequences, settings | told), sequences, read
    )


def _build(name: str) -> NNXModel:
    module, _, function = name.partition(":")
    if not function:
        raise InputError(f"--model={name}: give MODULE:FUNCTION, such as my_model:build.")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        build = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        raise InputError(f"--model={name}: {error}. Looked in {os.getcwd()} and in what is installed.") from None
    except AttributeError:
        raise InputError(f"--model={name}: {module} has no {function}.") from None
    found = build()
    if not isinstance(found, NNXModel):
        raise InputError(f"--model={name}: returned {type(found).__name__}, not a jaxsae.harvest.NNXModel.")
    return found


def _placed(leaf: Any, mesh: jax.sharding.Mesh) -> Any:
    """A leaf on all devices of the mesh, unless it is spread already."""
    if isinstance(leaf, jax.Array) and len(leaf.sharding.device_set) > 1:
        return leaf
    return jax.device_put(leaf, NamedSharding(mesh, P())) if isinstance(leaf, jax.Array | np.ndarray) else leaf


def _widths(shapes: Mapping[str, Any], sites: tuple[str, ...], wanted: tuple[int, int]) -> dict[str, int]:
    for site in sites:
        if len(shapes[site].shape) != 3 or shapes[site].shape[:2] != wanted:
            told = f"{list(shapes[site].shape)} for tokens {list(wanted)}"
            raise InputError(f"--sites={site}: the model reads {told}; it needs to be [B, T, d_model].")
    return {site: shapes[site].shape[-1] for site in sites}


def _fingerprint(state: Any) -> str:
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(state):
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:16]
