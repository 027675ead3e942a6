"""Dictionaries and the model that they are spliced into as one compiled program over a mesh: no activations leave it.

One program runs the model as it is and makes the errors of reconstructions; one runs it with stand-ins, of which a number
for each site says which it is, so that all are compiled at once. See `splice_stand_ins.py` for what they are.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxsae.dictionary import SKIP, SPECS, Method
from jaxsae.dictionary.device import reconstruct
from jaxsae.errors import InputError
from jaxsae.evaluate.splice_stand_ins import ERROR_NODES, Run, named_stand_ins
from jaxsae.evaluate.text_model import Batch, TextModel
from jaxsae.lm.decoder import compare, forward
from jaxsae.lm.decoder.program import Static, specs_of
from jaxsae.lm.decoder.shape import Decoder
from jaxsae.parallel import DATA, shardings
from jaxsae.store.statistics import Moments

_KINDS = ("none", "spliced", "zero", "mean", "skip")  # by their numbers in the program
_NODES = -_KINDS.index("spliced")  # that of error nodes
_ROWS, _WIDE = P(DATA, None), P(DATA, None, None)


@dataclasses.dataclass(frozen=True)
class _Spliced:
    """What is compiled for: the model, and {site that is written: (what is read, by what method)}.

    Attributes:
      at_once: widths of the sites where one dictionary writes all of them of what they are unreplaced; else ().
      skips: whether a map past the latents is a stand-in.
    """

    shape: Decoder
    mesh: Mesh
    sites: tuple[tuple[str, tuple[str, ...], Method], ...]
    at_once: tuple[int, ...]
    skips: bool


class MeshSplice:
    """Those of some runs, {site that is written: run}, in a `DecoderLM`; counts how large errors are."""

    def __init__(self, text: TextModel, runs: Mapping[str, Run]):
        self._text, self._lm, self._runs = text, text.lm, runs
        first = next(iter(runs.values())).dictionary
        self._skips = all(SKIP in run.dictionary.params.shared for run in runs.values())
        sites = tuple((site, run.reads, run.dictionary.method) for site, run in runs.items())
        spliced = _Spliced(self._lm.shape, self._lm.mesh, sites, first.config.site_widths, self._skips)
        self._plain, self._with = _programs(spliced, Static(specs_of(self._lm.weights)))
        place = shardings(self._lm.mesh, SPECS)
        own = {
            site: (jax.device_put(run.dictionary.params, place), run.dictionary.threshold) for site, run in runs.items()
        }
        self._arrays = {
            "made": {site: (params, np.float32(floor)) for site, (params, floor) in own.items()},
            "mean": {site: jnp.asarray(run.mean) for site, run in runs.items()},
        }
        self._squares = dict.fromkeys(runs, 0.0)
        self._written: dict[str, list[Moments]] = {site: [] for site in runs}

    def sums(self, batch: Batch, named: Mapping[str, Sequence[str]]) -> dict[Any, np.ndarray]:
        """As `TorchSplice.sums`."""
        size = self._text.sequences.batch_size, self._text.sequences.longest
        tokens = self._lm.put(batch.tokens, *size)
        kept, asked, targets = (self._lm.filled(a, *size) for a in (batch.kept, batch.asked, batch.targets))
        last, made, told = self._plain(self._lm.weights, self._arrays, tokens, kept)
        waiting = {}
        for name, stand_in, there in named_stand_ins(named, list(self._runs), self._skips):
            number = _NODES if name == ERROR_NODES else _KINDS.index(stand_in)
            choice = {site: np.int32(number if site in there else 0) for site in self._runs}
            rest = self._arrays, made, last, choice, tokens, kept, asked, targets
            waiting[name, stand_in] = self._with(self._lm.weights, *rest)
        self._count(told)
        found: dict[Any, np.ndarray] = {"count": batch.asked.sum(1)}
        for key, columns in waiting.items():
            columns = {what: np.asarray(x, np.float64)[: len(batch.tokens)] for what, x in columns.items()}
            found["ce", "original"] = columns.pop("ce_original")
            found |= {(what, *key): x for what, x in columns.items()}
        return found

    def shares(self) -> dict[str, float | None]:
        """As `TorchSplice.shares`."""
        spread = {site: Moments.merged(parts).squares.sum() for site, parts in self._written.items()}
        return {site: self._squares[site] / spread[site] if spread[site] > 0 else None for site in spread}

    def _count(self, told: Mapping[str, tuple[jax.Array, ...]]) -> None:
        for site, figures in told.items():
            rows, mean, squares, error = (np.asarray(x, np.float64) for x in figures)
            if rows:
                self._written[site].append(Moments(int(rows), mean, squares))
                self._squares[site] += float(error)


@lru_cache(8)
def _programs(spliced: _Spliced, weights: Static) -> tuple[Callable, Callable]:
    """The model as it is, (weights, arrays, tokens, kept) -> what leaves its last block, what stand-ins need of it, and
    moments; and with stand-ins, (weights, arrays, that, that, choice, tokens, kept, asked, targets) -> sums."""
    arrays = {"made": {site: (SPECS, P()) for site, _, _ in spliced.sites}, "mean": P()}
    plain = lambda *args: _plain(spliced, *args)
    other = lambda *args: _with_stand_ins(spliced, *args)

    def compiled(device: Callable, given: tuple, gives: Any) -> Callable:
        specs = dict(mesh=spliced.mesh, in_specs=(weights.tree, arrays, *given), out_specs=gives)
        return jax.jit(jax.shard_map(device, check_vma=False, **specs))

    return (
        compiled(plain, (_ROWS, _ROWS), (_WIDE, _WIDE, P())),
        compiled(other, (_WIDE, _WIDE, P(), _ROWS, _ROWS, _ROWS, _ROWS), P(DATA)),
    )


def _rows(x: jax.Array) -> jax.Array:
    return x.reshape(-1, x.shape[-1]).astype(jnp.float32)


def _beside(seen: Mapping[str, jax.Array], names: Sequence[str]) -> jax.Array:
    return seen[names[0]] if len(names) == 1 else jnp.concatenate([seen[name] for name in names], 1)


def _plain(spliced: _Spliced, weights: Any, arrays: Any, tokens: jax.Array, kept: jax.Array) -> tuple:
    seen: dict[str, jax.Array] = {}
    wanted = {name for site, reads, _ in spliced.sites for name in (site, *reads)}

    def tap(site: str, x: jax.Array) -> jax.Array:
        if site in wanted:
            seen[site] = jnp.where(kept.reshape(-1, 1), _rows(x), 0)
        return x

    last = forward.stream(weights, spliced.shape, tokens, tap)
    if spliced.at_once:
        whole, _, method = spliced.sites[0]
        y = reconstruct(*arrays["made"][whole], _beside(seen, [site for site, _, _ in spliced.sites]), method)
        parts = jnp.split(y, np.cumsum(spliced.at_once)[:-1], 1)
        made = {site: part for (site, _, _), part in zip(spliced.sites, parts, strict=True)}
    else:
        of = lambda site, reads, method: reconstruct(*arrays["made"][site], _beside(seen, reads or (site,)), method)
        made = {site: of(site, reads, method) for site, reads, method in spliced.sites}
    shaped = lambda y: y.reshape(*tokens.shape, -1)
    errors = {site: seen[site] - y for site, y in made.items()}
    told = {site: _moments(seen[site], error, kept) for site, error in errors.items()}
    needed = {site: {"error": shaped(error)} for site, error in errors.items()}
    if spliced.at_once:
        needed = {site: parts | {"made": shaped(made[site])} for site, parts in needed.items()}
    return last, needed, told


def _moments(x: jax.Array, error: jax.Array, kept: jax.Array) -> tuple[jax.Array, ...]:
    """Rows kept, their mean [d] and centred sum of squares [d], and the sum of squared errors, over all shards."""
    there, whole = kept.reshape(-1, 1), lambda values: jax.lax.psum(values, DATA)
    rows = whole(there.sum())
    mean = whole(jnp.where(there, x, 0).sum(0)) / jnp.maximum(rows, 1)
    squares = whole(jnp.where(there, jnp.square(x - mean), 0).sum(0))
    return rows, mean, squares, whole(jnp.where(there, jnp.square(error), 0).sum())


def _with_stand_ins(
    spliced: _Spliced,
    weights: Any,
    arrays: Any,
    made: Mapping[str, Mapping[str, jax.Array]],
    last: jax.Array,
    choice: Mapping[str, jax.Array],
    tokens: jax.Array,
    kept: jax.Array,
    asked: jax.Array,
    targets: jax.Array,
) -> dict[str, jax.Array]:
    seen: dict[str, jax.Array] = {}
    sites = {site: (reads, method) for site, reads, method in spliced.sites}
    read = {name for reads, _ in sites.values() for name in reads}

    def swapped(site: str, x: jax.Array) -> jax.Array:
        reads, method = sites[site]
        if late := [name for name in reads if name not in seen]:
            raise InputError(f"site {late[0]} comes after {site}, which is to be made of it")
        inputs = _beside(seen, reads) if reads else jnp.where(kept.reshape(-1, 1), _rows(x), 0)
        params, floor = arrays["made"][site]
        stored = {name: _rows(value) for name, value in made[site].items()}
        error = lambda: jnp.where(choice[site] == _NODES, stored["error"], 0)
        made_here = lambda: stored["made"] if "made" in stored else reconstruct(params, floor, inputs, method)
        wide = lambda value: jnp.broadcast_to(value, (tokens.size, x.shape[-1]))
        kinds = {
            "none": lambda: x,
            "spliced": lambda: made_here() + error(),
            "zero": lambda: wide(0.0),
            "mean": lambda: wide(arrays["mean"][site]),
            "skip": lambda: wide(method.base(params.shared, inputs) if spliced.skips else 0.0),
        }
        put = lambda value: jnp.where(kept[..., None], value().reshape(x.shape).astype(x.dtype), x)
        branches = [lambda value=kinds[kind]: put(value) for kind in _KINDS]
        return jax.lax.switch(abs(choice[site]), branches)

    def tap(site: str, x: jax.Array) -> jax.Array:
        if site in sites:
            x = swapped(site, x)
        if site in read:  # as it then is
            seen[site] = jnp.where(kept.reshape(-1, 1), _rows(x), 0)
        return x

    other = forward.stream(weights, spliced.shape, tokens, tap)
    return compare.sums(weights, spliced.shape, last, other, asked, targets)
