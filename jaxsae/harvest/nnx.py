"""Activations of any flax nnx model on text, over the devices of a mesh."""

import hashlib
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
from jaxsae.harvest.corpus import open_corpus
from jaxsae.harvest.hf import text_plan
from jaxsae.harvest.nnx_model import NNXModel, build, explained
from jaxsae.harvest.text_source import TextSource
from jaxsae.parallel import DATA, make_mesh

__all__ = ["NNXModel", "open_nnx"]


def open_nnx(config: HarvestConfig) -> TextSource:
    """The source of `--source=nnx`.

    Raises:
      InputError: no such function, site or text; a function that fails or gives something else; a mesh or a batch
        that does not fit the devices.
    """
    corpus = open_corpus(config.corpus)  # before a model is built, which may take long
    found = build(config.model)
    sites = config.sites or tuple(found.sites)
    for site in sites:
        check(site in found.sites, "sites", site, f"no such site. This model has: {', '.join(found.sites)}")
    # Each process makes shards of its own, so its mesh is of its own devices.
    mesh = make_mesh(config.mesh or (len(jax.local_devices()), 1), jax.local_devices())
    batch = config.forward_batch
    data = mesh.shape[DATA]
    check(batch % data == 0, "batch_size", batch, f"must be a multiple of the {data} data shards")
    sequences = corpus.within(found.context).sequences(found.vocabulary, batch, config.tokens)
    graph, state = nnx.split(found.model)
    state = jax.tree.map(lambda leaf: _placed(leaf, mesh), state)
    dtype = jnp.dtype(config.dtype)

    def forward(state: Any, tokens: jax.Array) -> dict[str, jax.Array]:
        read = found.read(nnx.merge(graph, state), tokens, sites)
        return {site: x.astype(dtype) for site, x in checked_activations(config.model, read, sites, tokens).items()}

    rows = NamedSharding(mesh, P(DATA, None))
    shape = jax.ShapeDtypeStruct((batch, sequences.context), jnp.int32, sharding=rows)
    widths = _widths(config.model, forward, state, shape)
    run = jax.jit(forward)

    def start(tokens: np.ndarray, kept: np.ndarray, wanted: bool) -> Callable[[], dict[str, np.ndarray]]:
        whole = np.zeros(shape.shape, np.int32)  # one shape, compiled once
        whole[: tokens.shape[0], : tokens.shape[1]] = np.maximum(tokens, 0)
        out = run(state, jax.device_put(whole, rows))
        return lambda: finish(out, kept)

    def finish(out: dict[str, jax.Array], kept: np.ndarray) -> dict[str, np.ndarray]:
        out = {site: np.asarray(x)[: kept.shape[0], : kept.shape[1]][kept] for site, x in out.items()}
        for site, x in out.items():
            _check_finite(site, x, config.dtype)
        return out

    settings = {"source": "nnx", "weights": _fingerprint(state)} | corpus.described(sequences, config.tokens)
    return TextSource(text_plan(config, widths, config.model, found.vocabulary, sequences, settings), sequences, start)


def checked_activations(model: str, read: Any, sites: tuple[str, ...], tokens: jax.Array) -> dict[str, jax.Array]:
    """What a model's `read` gave, {site: floats [B, T, d_model]} of `sites`; `InputError` where it is anything else."""
    if not isinstance(read, Mapping):
        raise InputError(f"--model={model}: its read gives {type(read).__name__}, not {{site: [B, T, d_model]}}.")
    for site in sites:
        if site not in read:
            there = ", ".join(map(str, read)) or "nothing"
            raise InputError(f"--model={model}: its read gives {there}, and not {site}, which stands among its sites.")
        x = read[site]
        if not isinstance(x, jax.Array) or x.ndim != 3 or x.shape[:2] != tokens.shape or not x.shape[2]:
            told = f"{list(x.shape)} for tokens {list(tokens.shape)}" if isinstance(x, jax.Array) else type(x).__name__
            raise InputError(f"--sites={site}: {model} reads {told}; it needs to be [B, T, d_model].")
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise InputError(f"--sites={site}: {model} reads {x.dtype}; activations are floats.")
    return {site: read[site] for site in sites}


def _widths(model: str, forward: Callable[..., Any], state: Any, tokens: jax.ShapeDtypeStruct) -> dict[str, int]:
    """d_model of each site, from tracing the model; nothing is run."""
    with explained(f"--model={model}: its read failed on tokens int32 {list(tokens.shape)}"):
        return {site: x.shape[-1] for site, x in jax.eval_shape(forward, state, tokens).items()}


def _check_finite(site: str, x: np.ndarray, dtype: str) -> None:
    if np.isfinite(x).all():
        return
    fix = (
        "Take --dtype=bfloat16 or --dtype=float32 (and another --store, where shards of this one are complete)."
        if dtype == "float16"
        else "Mend the model, or leave the site out."
    )
    raise InputError(f"Site {site}: Inf or NaN in its activations as {dtype}. {fix}")


def _placed(leaf: Any, mesh: jax.sharding.Mesh) -> Any:
    """A leaf on all devices of the mesh, unless it is spread already."""
    if isinstance(leaf, jax.Array) and len(leaf.sharding.device_set) > 1:
        return leaf
    return jax.device_put(leaf, NamedSharding(mesh, P())) if isinstance(leaf, jax.Array | np.ndarray) else leaf


def _fingerprint(state: Any) -> str:
    """Tells weights apart, all of them, by their places in the model, shapes and bits."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}".encode())
            digest.update(np.ascontiguousarray(leaf))
    return digest.hexdigest()[:16]
