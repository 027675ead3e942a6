"""A worker: claims members, trains them side by side, judges them, and goes on until all have ended.

It may be several processes, where one member needs the devices of several hosts: process 0 then claims and writes.
"""

import itertools
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from jaxsae.dictionary import MethodConfig
from jaxsae.errors import InputError, Preempted
from jaxsae.evaluate import EvaluateConfig, evaluate
from jaxsae.hosts import processes
from jaxsae.hosts.preemption import AGAIN, StopAtStep
from jaxsae.progress import Progress, is_first_process, say
from jaxsae.store import Store
from jaxsae.sweep.claims import Claims
from jaxsae.sweep.config import SweepConfig
from jaxsae.sweep.cost import Memory
from jaxsae.sweep.directory import check_store, read_outcome, write_outcome
from jaxsae.sweep.grid import Member
from jaxsae.sweep.results import Results
from jaxsae.sweep.stack import MemberSteps
from jaxsae.sweep.together import LostClaim, Together, stream_of

POLL_SECONDS = 1.0
LIVE_SECONDS = 30.0  # between two writes of sweep.json while members run


class Worker:
    """Trains the members of a sweep that no other worker does."""

    def __init__(
        self,
        config: SweepConfig,
        path: Path,
        members: Sequence[Member],
        store: Store,
        claims: Claims,
        results: Results,
        memory: Memory,
        preemption: StopAtStep,
    ):
        self._config, self._path, self._store = config, path, store
        self._claims, self._results, self._memory, self._preemption = claims, results, memory, preemption
        self._members = {m.name: m for m in sorted(members, key=lambda m: (str(stream_of(m)), -_size(m)))}
        self._steps, self._questions = MemberSteps(), itertools.count(1)
        self._retried: set[str] = set()  # failed members that this worker has tried again
        self._written = time.monotonic()

    def work(self) -> None:
        """Returns when all members have ended, or, with --wait=false, when none is left to be claimed.

        Raises:
          Preempted: SIGTERM; what was trained is saved.
        """
        total = sum(m.config.steps * m.config.batch_size for m in self._members.values())
        with Progress(total, "sweep", "tok", initial=self._tokens_done(), scale=True) as bar:
            while True:
                names, left = processes.from_first("claim members", self._claim)
                if names:
                    self._train([self._members[name] for name in names], bar)
                elif not left or not self._config.wait:
                    return
                else:
                    time.sleep(POLL_SECONDS)
                if self._stops():
                    self._leave()

    def _stops(self) -> bool:
        # Asked after every step of all processes alike, and of a counter that never goes back, as jax wants it.
        stops = self._preemption.reached(next(self._questions))
        if is_first_process() and time.monotonic() - self._written > LIVE_SECONDS:
            self._results.write()
            self._written = time.monotonic()
        return stops

    def _open(self) -> list[str]:
        """Members that have not ended, and failed ones that are to be tried again, in the order in which to train them."""
        outcomes = {name: read_outcome(self._path, name) for name in self._members}
        again = lambda name: self._config.retry_failed and name not in self._retried
        failed = lambda outcome: outcome is not None and outcome["status"] == "failed"
        return [name for name, o in outcomes.items() if o is None or (failed(o) and again(name))]

    def _tokens_done(self) -> int:
        left = set(self._open())
        return sum(m.config.steps * m.config.batch_size for n, m in self._members.items() if n not in left)

    def _claim(self) -> tuple[list[str], bool]:
        """Members that share batches and fit together, claimed; and whether others are left that have not ended."""
        taken: list[str] = []
        waiting = self._open()
        for name in waiting:
            if len(taken) == self._config.together:
                break
            member = self._members[name]
            if taken and stream_of(member) != stream_of(self._members[taken[0]]):
                continue
            if not self._memory.fit_together([self._members[n] for n in (*taken, name)]) and taken:
                continue
            if not self._claims.take(name):
                continue
            if name not in self._open():  # it ended between the look and the claim
                self._claims.release(name)
                continue
            taken.append(name)
        self._retried.update(taken)
        return taken, bool(waiting)

    def _train(self, members: Sequence[Member], bar: Progress) -> None:
        processes.from_first("look at the store", lambda: check_store(self._config))
        started = time.monotonic()
        if is_first_process():
            self._results.write()

        def ended(member: Member, error: Exception | None) -> None:
            self._ended(member, error, time.monotonic() - started)

        how = self._config.stack, self._config.checkpoint_seconds
        together = Together(members, self._store, self._steps, *how, bar, self._claims.holds, ended)
        if not together.run(self._stops):
            self._leave()

    def _leave(self) -> None:
        """Gives the members back, and says so in sweep.json."""
        if is_first_process():
            self._claims.release_all()
            self._results.write()
        raise Preempted(f"stopped by SIGTERM; what was trained is saved. {AGAIN}")

    def _ended(self, member: Member, error: Exception | None, seconds: float) -> None:
        """Judges a member that was trained, and says how it ended."""
        if error is None and self._config.evaluate:
            try:
                self._judge(member)
            except Exception as found:
                error = found
        if not is_first_process():
            return
        try:
            check_store(self._config)  # replaced under a run that reads it, its rows would be of both
        except InputError as changed:
            error = InputError(f"{changed} Remove {member.config.workdir}, which may be of both, to train it anew.")
        name, worker = member.name, self._claims.me["worker"]
        if isinstance(error, LostClaim) or not self._claims.holds(name):
            return say(f"{name}: taken over by another worker")
        if error is None:
            write_outcome(self._path, name, "finished", worker=worker, seconds=seconds)
        else:
            text = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            write_outcome(self._path, name, "failed", text, worker=worker, seconds=seconds)
            trace = "".join(traceback.format_exception(error))
            (Path(member.config.workdir) / "error.txt").write_text(trace, encoding="utf-8")
            say(f"{name} failed: {text}")
        self._claims.release(name)
        content = self._results.write()
        if error is None:
            figures = next(m["figures"] for m in content["members"] if m["name"] == name)
            done = sum(m["status"] in ("finished", "failed") for m in content["members"])
            shown = "  ".join(f"{n} {figures[n]:.4g}" for n in ("fvu", "l0", "delta_ce") if figures[n] is not None)
            say(f"{name}: {shown}  ({done} of {len(self._members)})")

    def _judge(self, member: Member) -> None:
        evaluate(judging(self._config, member.config.workdir), quiet=True)


def judging(config: SweepConfig, run: str) -> EvaluateConfig:
    """The flags of `jaxsae evaluate` for a member."""
    return EvaluateConfig(
        run=run,
        suite=config.evaluate,
        rows=config.eval_rows,
        games=config.games,
        text=config.text,
        documents=config.documents,
        text_tokens=config.text_tokens,
        model=config.model,
    )


def _size(member: Member) -> float:
    """What decides the order: the longest first, so that no worker is left with one at the end."""
    method: MethodConfig = member.config.method
    return float(method.width) * member.config.steps * member.config.batch_size
