"""The loop: dispatch step n, then look at step n - 1, so that the device never waits for the log."""

from collections.abc import Iterator
from pathlib import Path

import jax

from jaxsae.dictionary import Dictionary
from jaxsae.errors import Preempted, reraise_if_disk_full
from jaxsae.hosts import processes
from jaxsae.hosts.preemption import AGAIN, StopAtStep
from jaxsae.progress import Progress, prefetched, say
from jaxsae.store import iterate
from jaxsae.training.agreement import check_agreement, check_same_store
from jaxsae.training.config import TrainConfig
from jaxsae.training.end_to_end.texts import Text
from jaxsae.training.every import train_each
from jaxsae.training.live_run import LiveRun
from jaxsae.training.more_tokens import as_begun, begin, open_checkpoints, where_to_go_on
from jaxsae.training.optimizer import BYTES_PER_PARAMETER
from jaxsae.training.run import load, open_run
from jaxsae.training.setup import Setup
from jaxsae.training.source_run import write_source_store


def train(config: TrainConfig) -> Dictionary | list[Dictionary]:
    """Trains a dictionary, or resumes the run in `config.workdir`; what `jaxsae train` calls.

    Returns:
      The trained dictionary; where the flags are of several sites, that of each.

    Raises:
      InputError: bad flags, store, run or batch; nothing that was on disk is lost.
      Preempted: SIGTERM came; what was trained so far is saved.
    """
    if config.is_several:
        return train_each(config)
    with StopAtStep() as preemption:
        if config.source_run:
            write_source_store(config)
        config = as_begun(config)
        setup = Setup.of(config, give_up=lambda: preemption.asked_alone)
        check_agreement(setup)
        with processes.busy("opening the model"):
            setup.through  # noqa: B018  before anything is written: it may be refused
        if not setup.store.complete and not setup.shards:
            say(
                "A run on a part of a store does not go on once there is more: complete the harvest, or train with --follow."
            )
        try:
            return _train(setup, open_run(config), preemption)
        except OSError as error:
            reraise_if_disk_full(error, config.workdir)
            raise


def _train(setup: Setup, workdir: Path, preemption: StopAtStep) -> Dictionary:
    config = setup.config
    with open_checkpoints(config) as checkpoints:
        going_on = where_to_go_on(config, checkpoints)
        done = going_on.step
        processes.agree({"newest checkpoint": done}, f"{workdir} must lie on a file system that all hosts share.")
        if done:
            check_same_store(setup, workdir, done)
        if done >= config.steps:
            trained = load(workdir, setup.mesh)  # before anything is said of it: it may be damaged
            begin(config, checkpoints, going_on)
            say(f"{workdir} is complete: {done} steps. Evaluate it with `jaxsae evaluate --run={workdir}`.")
            return trained
        with processes.busy("compiling the step"):
            step, plan, free = setup.compile()
        say(*plan.lines(free), _moments_line(config.optimization.optimizer))
        bar = Progress(config.steps * config.batch_size, "train", "tok", initial=done * config.batch_size, scale=True)
        live = LiveRun(setup, workdir, checkpoints, bar)
        if going_on.told:
            say(going_on.told)
        if done:
            say(f"resuming {workdir} at step {done} of {config.steps}")
        with bar, live:
            _run(live, step, preemption)
    del live  # the state: with what is read now it would be the most that a run ever holds
    with processes.busy("reading the dictionary"):
        return load(workdir, setup.mesh)


def _moments_line(chosen: str) -> str:
    """What each optimiser's moments cost, the chosen one first."""
    names = [chosen, *(n for n in BYTES_PER_PARAMETER if n != chosen)]
    costs = [f"{name} {BYTES_PER_PARAMETER[name]}" for name in names]
    return f"bytes of moments a parameter: {costs[0]} (other --optimizer choices: {', '.join(costs[1:])})"


def _run(live: LiveRun, step, preemption: StopAtStep) -> None:
    """Steps to the last, or to the one at which all are asked to stop."""
    pace = live.setup.program.pace
    model = (live.setup.through.weights,) if live.setup.through else ()
    for x in _batches(live.setup, live.done, preemption):
        live.take(*step(live.state, x, pace, *model))
        stop = preemption.reached(live.taken)
        if live.is_due or live.is_before_fall or (stop and not live.is_complete):
            live.save()
        if stop:
            break
    live.finish()
    if not live.is_complete:
        raise Preempted(f"stopped by SIGTERM; step {live.taken} of {live.setup.config.steps} is saved. {AGAIN}")
    workdir, steps = live.workdir, live.setup.config.steps
    say(
        f"{workdir}: {steps} steps in {live.seconds:,.1f} s{live.closing()}. `jaxsae evaluate --run={workdir}` judges it."
    )


def _batches(setup: Setup, done: int, preemption: StopAtStep) -> Iterator[jax.Array | Text]:
    """Batches from that of step `done` to the last one, or to where all are asked to stop while waiting for shards."""
    if setup.through:
        made = (setup.through.batches.batch(index) for index in range(done, setup.config.steps))
        yield from (text.put(setup.mesh) for text in prefetched(made, setup.config.prefetch))
        return
    ahead = iterate(setup.batches, done, setup.row_sharding, prefetch=setup.config.prefetch)
    try:
        for index in range(done, setup.config.steps):
            if setup.shards and not setup.wait_for_batch(index, lambda: preemption.asked_alone):
                return
            yield next(ahead)[1]
    finally:
        if setup.shards:
            setup.shards.close()  # threads that wait for what comes after
