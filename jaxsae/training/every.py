"""A dictionary of each of several sites, trained side by side: rows of all sites are read once, each run takes its own part.

Each is a run of its own in WORKDIR/SITE, with the bits of `jaxsae train` with its flag file; runs of one shape share one
compiled step. The same command again goes on with all of them. --initialize_from names a directory of such runs.
"""

import dataclasses
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from jaxsae.config import check, write_flag_file
from jaxsae.dictionary import Dictionary
from jaxsae.errors import InputError, Preempted, reraise_if_disk_full
from jaxsae.hosts import processes
from jaxsae.hosts.preemption import AGAIN, StopAtStep
from jaxsae.paths import check_above
from jaxsae.progress import Progress, say
from jaxsae.store import Store, open_store
from jaxsae.training.agreement import check_agreement, check_same_store
from jaxsae.training.compiled import CompiledSteps
from jaxsae.training.config import TrainConfig
from jaxsae.training.live_run import LiveRun
from jaxsae.training.memory import check_fits
from jaxsae.training.more_tokens import as_begun, open_checkpoints
from jaxsae.training.run import FLAGS, SET_FLAGS, load, open_run
from jaxsae.training.setup import Setup
from jaxsae.training.streams import streams_of
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
        models: dict = {}
        setups = [Setup.of(one, store, models=models) for one in configs]  # all, before anything is written
        for setup in setups:
            check_agreement(setup)
            with processes.busy("opening the model"):
                setup.through  # noqa: B018  it may be refused
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

    def one(name: str, **changes) -> TrainConfig:
        start = config.initialize_from and str(Path(config.initialize_from) / name)
        workdir = str(Path(config.workdir) / name)
        return dataclasses.replace(config, sites=(), workdir=workdir, initialize_from=start, **changes)

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
        return [one(writes, reads=(reads,), writes=(writes,)) for reads, writes in there]
    sites = [site for pattern in config.sites for site in matched(store, "sites", pattern)]
    twice = next((site for site in sites if sites.count(site) > 1), None)
    check(twice is None, "sites", ",".join(config.sites), f"{twice} is named twice")
    return [one(site, site=site) for site in sites]


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
    streams = streams_of(left)
    last = max(live.setup.config.steps for live in left)
    for index in range(min(stream.first for stream in streams), last):
        for stream in streams:
            for live, batch in stream.take(index):
                through = live.setup.through
                model = (through.weights,) if through else ()
                live.take(*steps[live](live.state, batch, live.setup.program.pace, *model))
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
