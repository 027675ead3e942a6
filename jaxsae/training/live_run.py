"""A run under way: its state, its log and its checkpoints. Whoever brings the batches may train several on each."""

import time
from contextlib import ExitStack
from pathlib import Path

from jaxsae.errors import InputError
from jaxsae.hosts import processes
from jaxsae.progress import Progress, is_first_process, say
from jaxsae.training.about import metadata_of
from jaxsae.training.averaged import threshold_of_average
from jaxsae.training.checkpoint import Checkpoints
from jaxsae.training.held_out import HeldOut
from jaxsae.training.metrics import MetricsLog
from jaxsae.training.more_tokens import begin, restore, step_before_fall, where_to_go_on
from jaxsae.training.rates import check_same_defaults
from jaxsae.training.run import AVERAGE_THRESHOLD, START_FVU
from jaxsae.training.setup import Setup
from jaxsae.training.state import TrainState
from jaxsae.training.step import StepMetrics
from jaxsae.training.summary import write_summary
from jaxsae.training.watch import Watch


class LiveRun:
    """Takes the outcomes of steps, one after another; looks at each when the next is on its way to the device.

    A context that closes log and checkpoints; what was not saved is then lost.

    Attributes:
      state: after the step taken last. taken: how many steps that is. done: how many there were to begin with.
    """

    def __init__(self, setup: Setup, workdir: Path, checkpoints: Checkpoints, bar: Progress):
        """Restores the checkpoint to go on from, or makes a fresh state; changes nothing on disk.

        Raises:
          InputError: a damaged checkpoint, the run was begun with other defaults, or --tokens that do not do.
        """
        self.setup, self.workdir, self._checkpoints, self._bar = setup, workdir, checkpoints, bar
        self._going_on = where_to_go_on(setup.config, checkpoints)
        self.done = self.taken = self._going_on.step
        if self.done:
            metadata = checkpoints.metadata(self.done)
            check_same_defaults(workdir, setup.config, metadata, setup.program.defaults)
        self.state: TrainState
        with processes.busy("making or restoring the state"):
            if self.done:
                self.state = restore(setup.config, checkpoints, self._going_on, setup.abstract)
                self._start_fvu = metadata.get(START_FVU)
            else:
                self.state, self._start_fvu = setup.fresh_start(say)
        self._previous: StepMetrics | None = None
        self._held_out = HeldOut(setup)
        self._started = time.perf_counter()

    def __enter__(self) -> "LiveRun":
        self._open = ExitStack()
        self._watch = Watch(self.setup, self._begin, self._bar, self.done, skipped=int(self.state.skipped))
        return self

    def _begin(self) -> MetricsLog:
        """Once a step has gone well: what was there of later steps goes only now."""
        begin(self.setup.config, self._checkpoints, self._going_on)
        return self._open.enter_context(MetricsLog(self.workdir, self.done))

    def __exit__(self, *exception) -> None:
        self._open.__exit__(*exception)

    @property
    def is_complete(self) -> bool:
        """Whether the last step was taken."""
        return self.taken >= self.setup.config.steps

    @property
    def is_due(self) -> bool:
        """Whether --checkpoint_every asks for a checkpoint; the last one is `finish`'s."""
        return self.taken % self.setup.config.checkpoint_every == 0 and not self.is_complete

    @property
    def is_before_fall(self) -> bool:
        """Whether the step that more tokens would go on from was taken; it is saved, and nothing is said of it."""
        return self.taken == step_before_fall(self.setup.config) and not self.is_complete

    def take(self, state: TrainState, metrics: StepMetrics) -> None:
        """Takes what a step has made of `self.state`, and looks at the step before it.

        Raises:
          InputError: that step's batch or loss was not finite, and --on_nan=stop. DiskFullError: a save found no room.
        """
        self._checkpoints.check()  # steps after a save that failed would be lost
        self.state, before, self._previous = state, self._previous, metrics
        self.taken += 1
        if before is not None:
            self._watch(self.taken - 1, before)

    def save(self, wait: bool = False) -> None:
        """Starts to save the last step, after a look at it: one that stops the run is not saved as if it had been taken."""
        self._look(judge=self.is_due or self.is_complete)
        if self._checkpoints.latest != self.taken:
            threshold = threshold_of_average(self.setup, self.state, self.taken)
            more = {AVERAGE_THRESHOLD: threshold, START_FVU: self._start_fvu}
            metadata = metadata_of(self.setup) | {name: value for name, value in more.items() if value is not None}
            self._checkpoints.save(self.taken, self.state, metadata)
        if wait:
            self._checkpoints.wait()
        self._remove_shards()

    def finish(self) -> None:
        """Looks at the last step and returns when it is on disk; of a complete run, writes run.json."""
        if self.taken > self.done:
            self.save(wait=True)
        if self.is_complete:
            write_summary(self.workdir, self.setup, self.seconds, self.taken - self.done)

    @property
    def seconds(self) -> float:
        """Since the state was there."""
        return time.perf_counter() - self._started

    def closing(self) -> str:
        """The last figures that were logged, for the line that ends a run."""
        return self._watch.closing(self._start_fvu)

    def _look(self, judge: bool) -> None:
        """Looks at the last step; with `judge` at its weights too, once it is known to be one that may be saved."""
        if self._previous is not None:
            metrics, self._previous = self._previous, None
            self._watch(self.taken, metrics, self._judged if judge else None)

    def _judged(self) -> dict[str, float | int]:
        """Of the last step's weights; none where held-out rows cannot be read: that is no reason to stop a run."""
        with processes.busy("judging by held-out rows"):
            try:
                return self._held_out(self.state)
            except InputError as error:
                if not processes.is_alone():
                    raise  # the others wait for this one's part
                say(f"held-out rows are left out: {error}")
                return {}

    def _remove_shards(self) -> None:
        setup = self.setup
        if setup.config.keep_bytes is None or not is_first_process():
            return
        # What is saved may prove damaged: rows since the oldest checkpoint that is kept can be needed again.
        oldest = (self._checkpoints.oldest or 0) - setup.config.calibration_steps
        row = setup.batches.order.lowest_row_from(max(0, oldest))
        if gone := setup.shards.remove_below(row, setup.config.keep_bytes):
            say(f"{setup.store.url}: removed {len(gone)} shards, up to shard {gone[-1]}, that were trained on")
