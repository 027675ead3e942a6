"""Attributions of a batch over a mesh, which no activations leave: three device programs, compiled once each.

`clean` runs the model as it is and takes the gradient of its cross-entropy by zeros that are added at the site, `latents`
sums what sparse lists of latents and the error come to, and `moved` runs the model with a step along the error. Sums by
latent are scattered from the lists into each shard's own latents: no [B, n] array stands.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxsae.dictionary import SKIP, SPECS, Dictionary, Method, Params
from jaxsae.dictionary.device import count_active, decode, encode
from jaxsae.evaluate.attribution_text import Batch, Model
from jaxsae.kernels.pairs import gather_dot
from jaxsae.kernels.products import product
from jaxsae.lm.decoder.program import Static, specs_of
from jaxsae.lm.passes import Passes
from jaxsae.lm.taps import Taps
from jaxsae.parallel import DATA, MODEL, shardings, sum_over_data

SHARE_OF_A_ROW = 0.9
_ROWS, _TOKENS = P(DATA, None), P(DATA, None)
Rows = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class _Site:
    """What is compiled for: a model, and a dictionary that reads one site and writes another of width d_out, or the same."""

    passes: Passes
    mesh: Mesh
    method: Method
    reads: str
    writes: str
    d_out: int


class MeshAttribution:
    """Of a dictionary that reads and writes one site each in a model, whose mesh they share."""

    def __init__(self, model: Model, dictionary: Dictionary, reads: str, writes: str):
        self._weights, self._dictionary = model.weights, dictionary
        self._site = _Site(model.passes, model.mesh, dictionary.method, reads, writes, dictionary.widths.d_out)
        self._specs = Static(specs_of(model.weights))
        self._params = jax.device_put(dictionary.params, shardings(model.mesh, SPECS))
        self._floor = np.float32(dictionary.threshold if dictionary.config.has_threshold else 0)
        self._k = dictionary.config.k if dictionary.config.k_of_a_row else 1

    def sums(self, batch: Batch, steps: Sequence[float]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """What a batch comes to.

        Args:
          steps: along the reconstruction's error.

        Returns:
          Sums over its rows: `rows`; `absolute`, `net`: of sum_i |a_i| and sum_i a_i; `error_*`, `bias_net`, `skip_net`,
          `input_*`: of what the error, b_dec, what skips the latents, and the whole of what is written come to; `error_size`,
          `mass`: of ||e|| and sum_i |f_i| ||W_dec,i||; `attributed`: rows where any a_i is not 0, and of these `l0` and how
          many latents have SHARE_OF_A_ROW of a row's sum (`most`, and of its mass `most_of_mass`); `ce`, and `moved` [steps]:
          what the steps change of it. And by latent [n]: `absolute`, `net`, `mass`, and `firings`.
        """
        clean, given = _clean(self._site, self._specs), (self._params, self._floor)
        x, pull, losses, most = clean(self._weights, *given, batch.tokens, batch.kept, batch.asked, batch.targets)
        if not self._dictionary.config.k_of_a_row:
            self._k = max(self._k, min(self._dictionary.width, 1 << (max(int(most), 1) - 1).bit_length()))
        whole, by_latent, error = _latents(self._site, self._k)(*given, x, pull, batch.kept)
        moved, waiting = _moved(self._site, self._specs), []
        for step in steps:
            rest = batch.tokens, batch.asked, batch.targets, error, losses, np.float32(step)
            waiting.append(moved(self._weights, *rest))
        host = lambda arrays: {name: np.asarray(array, np.float64) for name, array in arrays.items()}
        found = host(whole) | {"moved": np.array([float(value) for value in waiting])}
        return found | {"ce": np.asarray(losses, np.float64).sum()}, host(by_latent)


def _compiled(site: _Site, device: Callable, given: tuple, gives: Any) -> Callable:
    sharded = jax.shard_map(partial(device, site), mesh=site.mesh, in_specs=given, out_specs=gives, check_vma=False)
    return jax.jit(sharded)


@lru_cache(8)
def _clean(site: _Site, weights: Static) -> Callable:
    """(weights, params, floor, tokens, kept, asked, targets) -> {site: rows}, the gradient by what is written [B, d_out],
    losses [S, T], and the most latents that a row has where rows do not have k each."""
    given = (weights.tree, SPECS, P(), _TOKENS, _TOKENS, _TOKENS, _TOKENS)
    return _compiled(site, _clean_pass, given, (_ROWS, _ROWS, _TOKENS, P()))


@lru_cache(16)
def _latents(site: _Site, k: int) -> Callable:
    """(params, floor, {site: rows}, gradient, kept) -> sums, sums by latent, and errors [B, d_out]."""
    device = lambda site, *args: _latent_sums(site, k, *args)
    return _compiled(site, device, (SPECS, P(), _ROWS, _ROWS, _TOKENS), (P(), P(MODEL), _ROWS))


@lru_cache(8)
def _moved(site: _Site, weights: Static) -> Callable:
    """(weights, tokens, asked, targets, errors, losses, step) -> what the step changes of all losses."""
    return _compiled(site, _moved_pass, (weights.tree, _TOKENS, _TOKENS, _TOKENS, _ROWS, _TOKENS, P()), P())


def _rows(x: jax.Array) -> jax.Array:
    return x.reshape(-1, x.shape[-1]).astype(jnp.float32)


def _losses(site: _Site, weights: Any, final: jax.Array, asked: jax.Array, targets: jax.Array) -> jax.Array:
    """float32 [S, T]: cross-entropy in nats of what is asked, 0 elsewhere."""
    made = final.reshape(-1, final.shape[-1])
    losses = site.passes.cross_entropy(weights, made, jnp.where(asked, targets, 0).reshape(-1))
    return jnp.where(asked, losses.reshape(asked.shape), 0)


def _clean_pass(
    site: _Site,
    weights: Any,
    params: Params,
    floor: jax.Array,
    tokens: jax.Array,
    kept: jax.Array,
    asked: jax.Array,
    targets: jax.Array,
) -> tuple[Rows, jax.Array, jax.Array, jax.Array]:
    def loss(added: jax.Array) -> tuple[jax.Array, tuple[Rows, jax.Array]]:
        taps = Taps({site.reads, site.writes}, {site.writes: lambda x: x + added})
        final = site.passes.run(weights, tokens, taps, False)
        losses = _losses(site, weights, final, asked, targets)
        return losses.sum(), (taps.seen, losses)

    pull, (seen, losses) = jax.grad(loss, has_aux=True)(jnp.zeros((*tokens.shape, site.d_out)))
    there = lambda x: jnp.where(kept.reshape(-1, 1), _rows(x), 0)
    x, most = {name: there(rows) for name, rows in seen.items()}, jnp.int32(0)
    if not site.method.config.k_of_a_row:
        counts = count_active(params, x[site.reads], floor, site.method)
        most = jax.lax.pmax(jnp.where(kept.reshape(-1), counts, 0).max(), DATA)
    return x, there(pull), losses, most


def _latent_sums(
    site: _Site, k: int, params: Params, floor: jax.Array, x: Rows, pull: jax.Array, kept: jax.Array
) -> tuple[Rows, Rows, jax.Array]:
    there, method = kept.reshape(-1, 1), site.method
    values, indices = encode(params, x[site.reads], k, method)
    if method.ranks and not method.config.k_of_a_row:
        values = jnp.where(values <= floor, 0, values)  # NaN stays
    values = jnp.where(there, values, 0)
    local = len(params.W_dec)
    at = indices - jax.lax.axis_index(MODEL) * local
    mine = (at >= 0) & (at < local)
    at, own = jnp.clip(at, 0, local - 1), jnp.where(mine, values, 0)
    own_parts = own * gather_dot(pull, own, at, params.W_dec)
    own_mass = jnp.abs(own) * jnp.linalg.norm(params.W_dec, axis=1)[at]
    parts, mass = (jax.lax.psum(array, MODEL) for array in (own_parts, own_mass))
    scattered = lambda array: sum_over_data(jnp.zeros(local, array.dtype).at[at].add(array))
    by_latent = {
        "absolute": scattered(jnp.abs(own_parts)),
        "net": scattered(own_parts),
        "mass": scattered(own_mass),
        "firings": scattered((own != 0).astype(jnp.int32)),
    }
    written, skips = x[site.writes], SKIP in params.shared
    skip = product(x[site.reads], params.shared[SKIP], 1, 1) if skips else jnp.zeros_like(written)
    error = jnp.where(there, written - decode(params, values, indices) - skip, 0)
    dots = lambda rows: (rows * pull).sum(-1)
    has = jnp.abs(parts).sum(1) > 0
    of_error, of_input = dots(error), dots(written)
    by_row = {
        "rows": kept.reshape(-1).astype(jnp.int32),
        "absolute": jnp.abs(parts).sum(1),
        "net": parts.sum(1),
        "error_absolute": jnp.abs(of_error),
        "error_net": of_error,
        "bias_net": dots(params.b_dec),
        "input_absolute": jnp.abs(of_input),
        "input_net": of_input,
        "error_size": jnp.linalg.norm(error, axis=1),
        "mass": mass.sum(1),
        "attributed": has.astype(jnp.int32),
        "l0": jnp.where(has, (values != 0).sum(1), 0),
        "most": jnp.where(has, _most(jnp.abs(parts)), 0),
        "most_of_mass": jnp.where(has, _most(mass), 0),
    }
    by_row |= {"skip_net": dots(skip)} if skips else {}
    return {name: sum_over_data(array.sum(0)) for name, array in by_row.items()}, by_latent, error


def _most(sizes: jax.Array) -> jax.Array:
    """int32 [B]: how many of a row's sizes [B, k], largest first, have SHARE_OF_A_ROW of their sum."""
    sums = jnp.cumsum(-jnp.sort(-sizes, axis=1), axis=1)
    return (sums < SHARE_OF_A_ROW * sums[:, -1:]).sum(1) + 1


def _moved_pass(
    site: _Site,
    weights: Any,
    tokens: jax.Array,
    asked: jax.Array,
    targets: jax.Array,
    error: jax.Array,
    losses: jax.Array,
    step: jax.Array,
) -> jax.Array:
    put = lambda x: x - step * error.reshape(x.shape)  # 0 where nothing is kept
    final = site.passes.run(weights, tokens, Taps((), {site.writes: put}))
    return sum_over_data((_losses(site, weights, final, asked, targets) - losses).sum())
