"""Members that share a store, a batch size and an order of rows, trained side by side: each batch is read, and moved to the
device, once for all of them. A member is an ordinary run, and its bits are those of `jaxsae train` with its flag file, but
where it is stacked.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import jax

from jaxsae.errors import DiskFullError, InputError
from jaxsae.hosts import processes
from jaxsae.progress import Progress, say
from jaxsae.store import Store, iterate
from jaxsae.sweep.grid import Member
from jaxsae.sweep.stack import MemberSteps, Stack
from jaxsae.training.live_run import LiveRun
from jaxsae.training.more_tokens import as_begun, open_checkpoints
from jaxsae.training.run import open_run
from jaxsae.training.setup import Setup

SAVING = 0.05  # share of the time that checkpoints may take


def stream_of(member: Member) -> tuple:
    """Members with equal streams see the same batches, step for step, for as long as each of them trains."""
    config = member.config
    return config.site, config.batch_size, config.order_seed, config.holdout_rows


class Trainee:
    """A member under way; a context that closes its log and checkpoints."""

    def __init__(self, member: Member, store: Store, steps: MemberSteps, bar: Progress):
        self.member = member
        self._open = ExitStack()
        try:
            config = as_begun(member.config)
            self.setup = Setup.of(config, store)
            workdir = open_run(config)
            checkpoints = self._open.enter_context(open_checkpoints(config))
            self.step = steps.of(self.setup)[0]
            self.live = self._open.enter_context(LiveRun(self.setup, workdir, checkpoints, bar))
        except BaseException:
            self._open.close()
            raise
        self.pace = self.setup.program.pace
        self.stack: tuple[Stack, int] | None = None

    def close(self, error: BaseException | None = None) -> None:
        """Closes log and checkpoints, whether the member ended well or not."""
        self._open.__exit__(type(error) if error else None, error, None)

    def unstack(self) -> None:
        """Takes its state back out of a stack."""
        if self.stack is not None:
            stack, place = self.stack
            self.live.state, self.stack = stack.state(place), None


class Together:
    """Trains members until each has ended: `ended(member, error)` is told as they do, with None for one that is complete."""

    def __init__(
        self,
        members: Sequence[Member],
        store: Store,
        steps: MemberSteps,
        stack: str,
        checkpoint_seconds: float,
        bar: Progress,
        holds: Callable[[str], bool],
        ended: Callable[[Member, Exception | None], None],
    ):
        self._steps, self._stack, self._holds, self._ended = steps, stack, holds, ended
        self.trainees: list[Trainee] = []
        self._saved, self._cost, self._least = time.monotonic(), 0.0, checkpoint_seconds
        for member in members:
            self._guarded(member, lambda member=member: self.trainees.append(Trainee(member, store, steps, bar)))

    def run(self, stops: Callable[[], bool]) -> bool:
        """Trains; False where `stops()`, asked after each step, was true, and what was trained is saved."""
        try:
            self._settle()
            if not self.trainees:
                return True
            self._make_stacks()
            first = self.trainees[0].setup
            start = min(t.live.taken for t in self.trainees)
            for index, x in iterate(first.batches, start, first.row_sharding, prefetch=first.config.prefetch):
                self._step(index, x)
                stop = stops()
                self._save(everything=stop)
                self._settle()
                if stop or not self.trainees:
                    return not self.trainees
            return True
        finally:
            for trainee in self.trainees:  # after an error, or a stop
                trainee.close()

    def _guarded(self, member: Member, work: Callable[[], object]) -> bool:
        """Whether `work` went well; what it raises ends the member, and the others go on."""
        try:
            work()
            return True
        except DiskFullError:
            raise  # it would end the others too
        except Exception as error:
            if not isinstance(error, InputError) and not processes.is_alone():
                raise  # the other processes may not have met it
            self._drop(member, error)
            return False

    def _drop(self, member: Member, error: Exception | None) -> None:
        gone = [t for t in self.trainees if t.member is member]
        self.trainees = [t for t in self.trainees if t.member is not member]
        for trainee in gone:
            self._dissolve(trainee)
            trainee.close(error)
        self._ended(member, error)

    def _dissolve(self, trainee: Trainee) -> None:
        """The members stacked with one that leaves go on by themselves."""
        if trainee.stack is not None:
            stack = trainee.stack[0]
            for other in [t for t in self.trainees if t.stack is not None and t.stack[0] is stack]:
                other.unstack()
            trainee.stack = None

    def _make_stacks(self) -> None:
        shapes: dict[tuple, list[Trainee]] = {}
        for t in self.trainees:
            shapes.setdefault((t.setup.program.key, t.live.taken, t.setup.config.steps), []).append(t)
        for alike in shapes.values():
            setup, count = alike[0].setup, len(alike)
            if self._steps.stacking_pays(setup, count, self._stack):
                step = self._steps.stacked(setup.program, count)
                stack = Stack(step, [t.live.state for t in alike], [t.pace for t in alike])
                for place, trainee in enumerate(alike):
                    trainee.stack, trainee.live.state = (stack, place), None
                say(f"{count} members of width {setup.config.method.width} are trained as one program")

    def _step(self, index: int, x: jax.Array) -> None:
        """One step of each member that has come to it; one that was resumed further on waits."""
        metrics: dict[Stack, list] = {}

        def step(trainee: Trainee) -> None:
            if trainee.stack is None:
                return trainee.live.take(*trainee.step(trainee.live.state, x, trainee.pace))
            stack, place = trainee.stack
            metrics[stack] = metrics.get(stack) or stack(x)
            trainee.live.take(None, metrics[stack][place])

        for trainee in [t for t in self.trainees if t.live.taken == index]:
            self._guarded(trainee.member, lambda trainee=trainee: step(trainee))

    def _save(self, everything: bool) -> None:
        """Saves what is due, where the time since the last saves is long enough for their cost, or all there is."""
        due = [t for t in self.trainees if t.live.is_due or t.live.is_before_fall or everything]
        due = [t for t in due if not t.live.is_complete]
        if not due:
            return
        enough = lambda: time.monotonic() - self._saved >= max(self._least, self._cost / SAVING)
        if not everything and not processes.from_first("checkpoint", enough):
            return
        started = time.monotonic()
        for trainee in due:
            self._guarded(trainee.member, lambda trainee=trainee: self._save_one(trainee, everything))
        self._saved = time.monotonic()
        self._cost = self._saved - started

    def _save_one(self, trainee: Trainee, wait: bool) -> None:
        if not processes.from_first("claim", lambda: self._holds(trainee.member.name)):
            raise LostClaim(f"{trainee.member.name} was taken over by another worker")
        if trainee.stack is not None:
            stack, place = trainee.stack
            trainee.live.state = stack.state(place)
        trainee.live.save(wait)

    def _settle(self) -> None:
        """Finishes the members whose last step was taken."""
        for trainee in [t for t in self.trainees if t.live.is_complete]:
            trainee.unstack()
            if self._guarded(trainee.member, trainee.live.finish):
                self._drop(trainee.member, None)


class LostClaim(Exception):
    """Another worker has taken a member over, since this one gave no sign of life for too long."""
