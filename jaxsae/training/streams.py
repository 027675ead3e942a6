"""What several runs take, step for step, read once for all: rows of their sites, or the text that their model reads."""

from collections.abc import Iterator
from functools import partial

import jax

from jaxsae.progress import prefetched
from jaxsae.store import Batches, iterate
from jaxsae.training.end_to_end.texts import Text
from jaxsae.training.live_run import LiveRun


def streams_of(lives: list[LiveRun]) -> "list[Stream] | list[TextStream]":
    """Of runs whose rows come in one order: it goes by how wide sites are, as in a run that is alone."""
    if lives[0].setup.through:
        return [TextStream(lives)]
    found: dict[int, list[LiveRun]] = {}
    for live in lives:
        store, sites = live.setup.store, live.setup.sites
        found.setdefault(max(store.d_model(site) * store.dtype(site).itemsize for site in sites), []).append(live)
    return [Stream(group) for group in found.values()]


class Stream:
    """Rows of the sites of runs that see the same ones, step for step."""

    def __init__(self, lives: list[LiveRun]):
        first = lives[0].setup
        self.first = min(live.taken for live in lives)
        self._lives = lives
        sites = tuple(dict.fromkeys(site for live in lives for site in live.setup.sites))
        widths = [first.store.d_model(site) for site in sites]
        self._starts = {site: sum(widths[:i]) for i, site in enumerate(sites)}
        one = first.batches
        rows = (0, first.rows - first.holdout)
        batches = Batches(first.store, sites, one.batch_size, one.seed, rows=rows, dtype=one.dtype)
        self._ahead = iterate(batches, self.first, first.row_sharding, prefetch=first.config.prefetch)
        self._whole = len(sites) == 1

    def take(self, index: int) -> Iterator[tuple[LiveRun, jax.Array]]:
        """The runs that step `index` is the next of, each with its batch."""
        if index < self.first or all(live.is_complete for live in self._lives):
            return
        x = next(self._ahead)[1]
        for live in self._lives:
            if live.taken == index and not live.is_complete:
                yield live, x if self._whole else self._part(live, x)

    def _part(self, live: LiveRun, x: jax.Array) -> jax.Array:
        parts = [(self._starts[site], live.setup.store.d_model(site)) for site in live.setup.sites]
        return _columns(x, tuple(parts), live.setup.row_sharding)


class TextStream:
    """The text of runs through one model, which are of one seed and batch size: the same for each."""

    def __init__(self, lives: list[LiveRun]):
        first = lives[0].setup
        self.first = min(live.taken for live in lives)
        self._lives, self._mesh = lives, first.mesh
        last = max(live.setup.config.steps for live in lives)
        made = (first.through.batches.batch(index) for index in range(self.first, last))
        self._ahead = prefetched(made, first.config.prefetch)

    def take(self, index: int) -> Iterator[tuple[LiveRun, Text]]:
        """The runs that step `index` is the next of, each with its batch."""
        if index < self.first or all(live.is_complete for live in self._lives):
            return
        text = next(self._ahead).put(self._mesh)
        for live in self._lives:
            if live.taken == index and not live.is_complete:
                yield live, text


@partial(jax.jit, static_argnums=(1, 2))
def _columns(x: jax.Array, parts: tuple[tuple[int, int], ...], sharding: jax.sharding.Sharding) -> jax.Array:
    """[B, numbers] of some sites, side by side, of those of all."""
    picked = [x[:, start : start + width] for start, width in parts]
    found = picked[0] if len(picked) == 1 else jax.numpy.concatenate(picked, 1)
    return jax.lax.with_sharding_constraint(found, sharding)
