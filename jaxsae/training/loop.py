"""The loop: dispatch step n, then look at step n - 1, so that the device never waits for the log."""

import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

import jaxsae
from jaxsae import processes
from jaxsae.config import to_dict
from jaxsae.dictionary import Dictionary
from jaxsae.errors import InputError, Preempted, reraise_if_disk_full
from jaxsae.files import write_json
from jaxsae.preemption import AGAIN, StopAtStep
from jaxsae.progress import Progress, is_first_process, say
from jaxsae.store import iterate
from jaxsae.training.checkpoint import Checkpoints, read_metadata
from jaxsae.training.config import TrainConfig
from jaxsae.training.metrics import MetricsLog, Speed
from jaxsae.training.optimizer import BYTES_PER_PARAMETER
from jaxsae.training.run import CHECKPOINTS, load, open_run
from jaxsae.training.setup import Setup
from jaxsae.training.state import TrainState
from jaxsae.training.step import StepMetrics


def train(config: TrainConfig) -> Dictionary:
    """Trains a dictionary, or resumes the run in `config.workdir`; what `jaxsae train` calls.

    Returns:
      The trained dictionary.

    Raises:
      InputError: bad flags, store, run or batch; nothing that was on disk is lost.
      Preempted: SIGTERM came; what was trained so far is saved.
    """
    with StopAtStep() as preemption:
        setup = Setup.of(config)
        _check_agreement(setup)
        try:
            return _train(setup, open_run(config), preemption)
        except OSError as error:
            reraise_if_disk_full(error, config.workdir)
            raise


def _check_agreement(setup: Setup) -> None:
    """Refuses processes that would train on different flags or stores."""
    fix = "Give every process the same flags, and a --store that all hosts reach under the same name."
    store = {"the store's fingerprint": setup.store.metadata(setup.site).get("fingerprint")}
    flags = {f"--{name}": value for name, value in to_dict(setup.config).items()}
    processes.agree(store | {"rows in the store": setup.rows} | flags, fix)


def _train(setup: Setup, workdir: Path, preemption: StopAtStep) -> Dictionary:
    config = setup.config
    with Checkpoints(workdir / CHECKPOINTS, config.keep_checkpoints) as checkpoints:
        done = checkpoints.latest or 0
        processes.agree({"newest checkpoint": done}, f"{workdir} must lie on a file system that all hosts share.")
        if done >= config.steps:
            trained = load(workdir, setup.mesh)  # before anything is said of it: it may be damaged
            say(f"{workdir} is complete: {done} steps. Evaluate it with `jaxsae evaluate --run={workdir}`.")
            return trained
        with processes.busy("compiling the step"):
            step, plan, free = setup.compile()
        say(*plan.lines(free), _moments_line(config.optimization.optimizer))
        if done:
            _check_same_rows(setup, workdir)
            say(f"resuming {workdir} at step {done} of {config.steps}")
        with processes.busy("making or restoring the state"):
            state = checkpoints.restore(done, setup.abstract) if done else setup.fresh_state()
        _run(setup, step, state, done, workdir, checkpoints, preemption)
    with processes.busy("reading the dictionary"):
        return load(workdir, setup.mesh)


def _moments_line(chosen: str) -> str:
    """What each optimiser's moments cost, the chosen one first."""
    names = [chosen, *(n for n in BYTES_PER_PARAMETER if n != chosen)]
    costs = [f"{name} {BYTES_PER_PARAMETER[name]}" for name in names]
    return f"bytes of moments a parameter: {costs[0]} (other --optimizer choices: {', '.join(costs[1:])})"


def _check_same_rows(setup: Setup, workdir: Path) -> None:
    """Refuses a store that has grown or shrunk since the run began: its batches would be others."""
    before = read_metadata(workdir / CHECKPOINTS)[1]["dictionary"].get("store_rows")
    if before not in (None, setup.rows):
        raise InputError(
            f"--store={setup.config.store}: has {setup.rows} rows, and had {before} when {workdir} was begun. "
            "Give the store as it was, or another --workdir with --initialize_from for the weights."
        )


def _run(
    setup: Setup,
    step,
    state: TrainState,
    done: int,
    workdir: Path,
    checkpoints: Checkpoints,
    preemption: StopAtStep,
) -> None:
    """Steps `done` to the last, or to the one at which all are asked to stop."""
    config, started = setup.config, time.perf_counter()
    bar = Progress(config.steps * config.batch_size, "train", "tok", initial=done * config.batch_size, scale=True)
    with MetricsLog(workdir, done) as log, bar:
        watch = _Watch(setup, log, bar, done, skipped=int(state.skipped))
        previous = None
        taken = done
        for index, x in _batches(setup, done, preemption):
            checkpoints.check()  # steps after a save that failed would be lost
            state, metrics = step(state, x)
            if previous is not None:
                watch(index, previous)
            previous, taken = metrics, index + 1
            stop = preemption.reached(index + 1)
            if (stop or (index + 1) % config.checkpoint_every == 0) and index + 1 < config.steps:
                watch(index + 1, metrics)  # a step that stops the run is not saved as if it had been taken
                previous = None
                _save(checkpoints, index + 1, state, setup)
                if stop:
                    break
        if previous is not None:
            watch(taken, previous)
        if taken > done:
            _save(checkpoints, taken, state, setup, wait=True)
        if taken < config.steps:
            raise Preempted(f"stopped by SIGTERM; step {taken} of {config.steps} is saved. {AGAIN}")
    seconds = time.perf_counter() - started
    _write_summary(workdir, setup, seconds, config.steps - done)
    say(
        f"{workdir}: {config.steps} steps in {seconds:,.1f} s{watch.closing()}. `jaxsae evaluate --run={workdir}` judges it."
    )


def _save(checkpoints: Checkpoints, step: int, state: TrainState, setup: Setup, wait: bool = False) -> None:
    checkpoints.save(step, state, setup.metadata())
    if wait:
        checkpoints.wait()
    if setup.config.keep_bytes is not None and is_first_process():
        # What is saved may prove damaged: rows since the oldest checkpoint that is kept can be needed again.
        row = setup.batches.order.lowest_row_from(checkpoints.oldest or 0)
        if gone := setup.shards.remove_below(row, setup.config.keep_bytes):
            say(f"{setup.store.url}: removed {len(gone)} shards, up to shard {gone[-1]}, that were trained on")


def _batches(setup: Setup, done: int, preemption: StopAtStep) -> Iterator[tuple[int, jax.Array]]:
    """(step, batch) from `done` to the last step, or to where all are asked to stop while waiting for shards."""
    ahead = iterate(setup.batches, done, setup.row_sharding, prefetch=setup.config.prefetch)
    try:
        for index in range(done, setup.config.steps):
            if setup.shards and not setup.wait_for_batch(index, lambda: preemption.asked_alone):
                return
            yield next(ahead)
    finally:
        if setup.shards:
            setup.shards.close()  # threads that wait for what comes after


class _Watch:
    """Looks at the metrics of finished steps: logs them, moves the bar, stops on what is not finite."""

    def __init__(self, setup: Setup, log: MetricsLog, bar: Progress, done: int, skipped: int):
        self._setup, self._log, self._bar = setup, log, bar
        self._speed, self._first, self._skipped = Speed(), done, skipped
        self._last: dict[str, float] = {}

    def __call__(self, step: int, metrics: StepMetrics) -> None:
        """Takes the metrics of the `step`-th step, counted from 1."""
        config = self._setup.config
        metrics = jax.device_get(metrics)
        processes.beat(f"step {step}")
        if not metrics.finite:
            self._not_finite(step)
        if step % config.log_every and step != config.steps:
            return self._bar.advance(config.batch_size)
        tokens = step * config.batch_size
        figures = {
            "step": step,
            "tokens": tokens,
            "loss": float(metrics.loss),
            "fvu": float(metrics.fvu),
            "l0": float(metrics.l0),
            "dead_fraction": float(metrics.dead) / config.method.width,
            "aux_loss": float(metrics.aux),
            "learning_rate": float(metrics.learning_rate),
            "skipped_batches": self._skipped,
            "tokens_per_second": self._speed(tokens - self._first * config.batch_size),
        }
        self._log.write(figures)
        self._last = figures
        shown = {name: f"{figures[name]:.4g}" for name in ("loss", "fvu", "l0")}
        self._bar.advance(config.batch_size, **shown, dead=f"{figures['dead_fraction']:.1%}")

    def closing(self) -> str:
        """The last figures that were logged, for the line that ends a run."""
        if not self._last:
            return ""
        shown = ", ".join(f"{name} {self._last[name]:.4g}" for name in ("loss", "fvu", "l0"))
        return f", {self._last['tokens']:,} tokens: {shown}, dead {self._last['dead_fraction']:.1%}"

    def _not_finite(self, step: int) -> None:
        self._skipped += 1
        where = describe_bad_batch(self._setup, step - 1)
        if self._setup.config.on_nan == "skip":
            return say(f"step {step} left out: {where}")
        raise InputError(
            f"step {step}: {where} The weights are those of step {step - 1}. "
            "Mend the store, or add --on_nan=skip to leave such batches out and count them."
        )


def describe_bad_batch(setup: Setup, index: int) -> str:
    """Which rows of the batch of a step (from 0) hold NaN or Inf."""
    bad = ~np.isfinite(setup.batches[index].astype(np.float32)).all(1)
    if not bad.any():
        return "the loss is not finite though the batch is; a lower --learning_rate may help."
    rows = np.sort(setup.batches.rows_of(index)[bad])
    listed = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
    return f"{len(rows)} of {len(bad)} rows hold NaN or Inf (rows {listed} of {setup.store.url}, site {setup.site})."


def _write_summary(workdir: Path, setup: Setup, seconds: float, steps: int) -> None:
    if not is_first_process():
        return
    summary = {
        "jaxsae": jaxsae.__version__,
        "jax": jax.__version__,
        "devices": [str(d.device_kind) for d in setup.mesh.devices.flat],
        "mesh": list(setup.mesh.devices.shape),
        "steps_of_this_process": steps,
        "seconds_of_this_process": seconds,
        "rows_in_store": setup.rows,
        "rows_held_out": setup.holdout,
    }
    write_json(workdir / "run.json", summary)
