"""A dictionary of each of several sites, trained side by side: rows of all sites are read once, each run takes its own part.

Each is a run of its own in WORKDIR/SITE, with the bits of `jaxsae train` with its flag file; runs of one shape share one
compiled step. The same command again goes on with all of them.
"""

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import jax

from jaxsae.config import check, write_flag_file
from jaxsae.dictionary import Dictionary
from jaxsae.errors import InputError, Preempted, reraise_if_disk_full
from jaxsae.hosts import processes
from jaxsae.hosts.preemption import AGAIN, StopAtStep
from jaxsae.paths import check_above
from jaxsae.progress import Progress, say
from jaxsae.store import Batches, Store, iterate, open_store
from jaxsae.training.agreement import check_agreement, check_same_store
from jaxsae.training.compiled import CompiledSteps
from jaxsae.training.config import TrainConfig
from jaxsae.training.live_run import LiveRun
from jaxsae.training.memory import check_fits
from jaxsae.training.more_tokens import as_begun, open_checkpoints
from jaxsae.training.run import FLAGS, SET_FLAGS, load, open_run
from jaxsae.training.setup import Setup
from jaxsae.training.taken import matched


def train_each(config: TrainConfig) -> list[Dictionary]:
    """Trains a dictionary of each site, or goes on with those that are there.

    Raises:
      InputError: as `train`, of any of the runs; before the first step of any where flags or sites do not do.
      Preempted: SIGTERM came; what was trained so far of each is saved.
    """
    with StopAtStep() as preemption, ExitStack() as stack:
        store = open_store(config.store_url)
        configs = [as_begun(one) for one in runs_of(config, store)]
        setups = [Setup.of(one, store) for one in configs]  # all, before anything is written
        for setup in setups:
            check_agreement(setup)
        try:
            processes.from_first("open the set", lambda: _claim(config))
            bar = stack.enter_context(Progress(sum(c.tokens for c in configs), "train", "tok", scale=True))
            steps = _opened(setups, configs, stack, bar)
            # Now that every run takes them: those that were refused leave the flags of a set as they were.
            processes.from_first("write the flags", lambda: write_flag_file(_flags_of(config), config, "train"))
            done = _run(steps, preemption)
        except OSError as error:
            reraise_if_disk_full(error, config.workdir)
            raise
        if not done:
            raise Preempted(f"stopped by SIGTERM; what was trained of each run in {config.workdir} is saved. {AGAIN}")
        workdirs, meshes = [live.workdir for live in steps], [live.setup.mesh for live in steps]
        del steps
    say(f"{config.workdir}: {len(workdirs)} runs, {', '.join(path.name for path in workdirs)}")
    return [load(path, mesh) for path, mesh in zip(workdirs, meshes, strict=True)]


def runs_of(config: TrainConfig, store: Store) -> list[TrainConfig]:
    """The flags of each run.

    Raises:
      InputError: a pattern that no site of the store matches, a site that is matched twice.
    """
    one = partial(dataclasses.replace, config, sites=())
    if not config.sites:
        before, after = config.reads[0].split("*")
        found = matched(store, "reads", config.reads[0])
        pairs = [(site, config.writes[0].replace("*", site[len(before) : len(site) - len(after)])) for site in found]
        there = [(reads, writes) for reads, writes in pairs if writes in store.sites]
        fix = (
            f"{store.url} has {', '.join(store.sites)}, none of which goes with {', '.join(read for read, _ in pairs)}"
        )
        check(bool(there), "writes", config.writes[0], fix)
        missing = [reads for reads, writes in pairs if writes not in store.sites]
        if missing:
            say(
                f"--writes={config.writes[0]}: nothing of {store.url} goes with {', '.join(missing)}, which are left out"
            )
        return [
            one(reads=(reads,), writes=(writes,), workdir=str(Path(config.workdir) / writes)) for reads, writes in there
        ]
    sites = [site for pattern in config.sites for site in matched(store, "sites", pattern)]
    twice = next((site for site in sites if sites.count(site) > 1), None)
    check(twice is None, "sites", ",".join(config.sites), f"{twice} is named twice")
    return [one(site=site, workdir=str(Path(config.workdir) / site)) for site in sites]


def _claim(config: TrainConfig) -> None:
    """Makes the directory of the runs, which a set that is begun is known by its flags in."""
    workdir = Path(config.workdir)
    check_above("--workdir=", workdir)
    if (workdir / FLAGS).exists():
        raise InputError(f"--workdir={workdir}: holds a run. Give a directory of its own for those of several sites.")
    workdir.mkdir(parents=True, exist_ok=True)
    if not _flags_of(config).exists():
        write_flag_file(_flags_of(config), config, "train")


def _flags_of(config: TrainConfig) -> Path:
    return Path(config.workdir) / SET_FLAGS


def _opened(setups: list[Setup], configs: list[TrainConfig], stack: ExitStack, bar: Progress) -> dict[LiveRun, Any]:
    """The runs with the step of each; those of one shape share it."""
    compiled = CompiledSteps()
    _, plans, (free, *_) = zip(*map(compiled.of, setups), strict=True)
    # States of all stand at once, what a step needs besides only of the one that is under way.
    largest = max(plans, key=lambda plan: plan.total)
    kept = {name: sum(getattr(p, name) for p in plans) for name in ("parameters", "moments", "batch")}
    plan = dataclasses.replace(largest, **kept)
    check_fits(plan, free)
    say(*plan.lines(free))
    steps = {}
    for setup, config in zip(setups, configs, strict=True):
        workdir = open_run(config)
        live = LiveRun(setup, workdir, stack.enter_context(open_checkpoints(config)), bar)
        if live.done:
            check_same_store(setup, workdir, live.done)
            how = "is complete:" if live.is_complete else "is resumed at"
            say(f"{workdir} {how} step {live.done} of {config.steps}")
            bar.advance(live.done * config.batch_size)
        steps[stack.enter_context(live)] = compiled.of(setup)[0]
    return steps


def _run(steps: dict[LiveRun, Any], preemption: StopAtStep) -> bool:
    """Steps until each run is complete; False where all are asked to stop, and are saved."""
    left = [live for live in steps if not live.is_complete]
    if not left:
        return True
    streams = _streams(left)
    last = max(live.setup.config.steps for live in left)
    for index in range(min(stream.first for stream in streams), last):
        for stream in streams:
            for live, x in stream.take(index):
                live.take(*steps[live](live.state, x, live.setup.program.pace))
        stop = preemption.reached(index + 1)
        for live in left:
            if live.taken == index + 1 and not live.is_complete and (live.is_due or live.is_before_fall or stop):
                live.save()
            elif live.is_complete and live.taken == index + 1:
                live.finish()
                say(f"{live.workdir}: {live.setup.config.steps} steps{live.closing()}.")
        if stop:
            for live in left:
                live.finish()
            return all(live.is_complete for live in left)
    return True


def _streams(lives: list[LiveRun]) -> "list[_Stream]":
    """Of runs whose rows come in one order: it goes by how wide sites are, as in a run that is alone."""
    found: dict[int, list[LiveRun]] = {}
    for live in lives:
        store, sites = live.setup.store, live.setup.sites
        found.setdefault(max(store.d_model(site) * store.dtype(site).itemsize for site in sites), []).append(live)
    return [_Stream(group) for group in found.values()]


class _Stream:
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


@partial(jax.jit, static_argnums=(1, 2))
def _columns(x: jax.Array, parts: tuple[tuple[int, int], ...], sharding: jax.sharding.Sharding) -> jax.Array:
    """[B, numbers] of some sites, side by side, of those of all."""
    picked = [x[:, start : start + width] for start, width in parts]
    found = picked[0] if len(picked) == 1 else jax.numpy.concatenate(picked, 1)
    return jax.lax.with_sharding_constraint(found, sharding)
