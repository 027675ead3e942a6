"""Groups of checks, each in a process of its own, for as long as there is time.

The process that keeps the findings starts no JAX backend: on a TPU, and with a GPU's memory taken, no other could. A check
that takes its process along is named, and the next process goes on behind it.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tqdm import tqdm

from jaxsae.benchmark.peers import is_installed
from jaxsae.check import show
from jaxsae.check.child import Child, Clock
from jaxsae.check.config import CheckConfig
from jaxsae.check.findings import CUT, FAILED, SKIPPED, Finding, Findings, Outcome
from jaxsae.check.steps import DEAD, Shape, shapes_for

FOR_THE_END = 2.0  # seconds, in which the table is made
MOST_OF_ONE = (120.0, 1 / 3)  # seconds, or the share of all time, that one check may take
# Of a GPU's memory, for steps; JAX's 0.75 is too little for 2^20 latents.
ROOM = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.95"}


class Session:
    """One call: its findings, its clock, and the processes that it starts one after another."""

    def __init__(self, config: CheckConfig, findings: Findings, start: Callable[..., Any] = Child):
        seconds = config.minutes * 60 - FOR_THE_END
        self.config, self.findings, self.start = config, findings, start
        self.clock = Clock(seconds, max(MOST_OF_ONE[0], MOST_OF_ONE[1] * seconds))
        self.names: list[str] = []

    def run(self) -> None:
        """All groups in turn; those that are not begun when the time is over are left out."""
        for group, settings in self._groups():
            only = self.config.only if group != "machine" else ""
            self._group({"group": group, "seed": self.config.seed, "only": only} | settings)

    def _groups(self) -> Iterator[tuple[str, dict[str, Any]]]:
        yield "machine", {}
        parts, machine = self.config.parts, self.findings.figures("machine")
        if not machine:  # no device answers, so there is nothing to check
            return
        platform = machine["platform"]
        for part in ("kernels", "ceilings"):
            if part in parts:
                yield part, {}
        if "steps" in parts:
            compare = [package for package in self.config.compare if is_installed(package)]
            for shape in shapes_for(platform):
                yield "steps", {"shape": vars(shape)}
                if compare:
                    ours = {str(dead): self.findings.figures(f"step {shape.name} {dead:.0%} dead") for dead in DEAD}
                    about = {"platform": platform, "memory": machine["memory_bytes"], "ours": ours}
                    yield "peers", {"shape": vars(shape), "compare": compare} | about
        if "training" in parts:
            yield "training", {"platform": platform}

    def _group(self, spec: dict[str, Any]) -> None:
        """The checks of a group; another process goes on behind a check that took its own along."""
        done: list[str] = []
        known: list[str] | None = None
        while self.clock.of_all() > 0:
            before = len(done)
            plan = self._process(spec | {"done": list(done)}, done)
            known = plan if known is None else known
            if plan is None or len(done) == before or all(name in done for name in plan):
                break
        left = [name for name in known or [] if name not in done]
        self.findings.not_reached += left if known is not None else [_title(spec)]

    def _process(self, spec: dict[str, Any], done: list[str]) -> list[str] | None:
        """One process: the names of the checks that it had to run; None: it did not come so far as to say. `done` grows."""
        plan, at, about = None, "", {}
        self.clock.begin()
        with self.start(spec, ROOM if spec["group"] == "steps" else {}) as child:
            for message in child.messages(self.clock):
                self.clock.begin()
                if "plan" in message:
                    plan = message["plan"]
                    self.names += [name for name in message["there_are"] if name not in self.names]
                elif "begin" in message:
                    at, about = message["begin"], message["about"]
                else:
                    self._found(message["finding"])
                    done.append(at)
                    at = ""
            if at:
                self._found(self._lost(at, about, child))
                done.append(at)
                if self.clock.of_all() > 0 and child.process.poll() is None:
                    self._pass_over(plan or [], at, about, done)
            elif self.clock.of_all() > 0 and len(done) == len(spec["done"]) and (plan is None or plan):
                about = {"part": spec["group"], "implementation": "", "shapes": {}, "interpreted": False}
                self._found(self._lost(f"{_title(spec)}: no check began", about, child))
        return plan

    def _pass_over(self, plan: list[str], hung: str, about: dict[str, Any], done: list[str]) -> None:
        """Leaves out what else there is of an implementation that hung: each would cost as much time again."""
        kernel = about["implementation"]
        for name in (n for n in plan if n not in done and f" {kernel} " in f" {n} "):
            outcome = Outcome(SKIPPED, message=f"{hung} hung")
            self._found(Finding(name, outcome=outcome, seconds=0.0, **about | {"shapes": {}}).as_dict())
            done.append(name)

    def _lost(self, name: str, about: dict[str, Any], child: Any) -> dict[str, Any]:
        """The finding of a check that never came back."""
        if self.clock.of_all() <= 0:
            outcome = Outcome(CUT, message="the time was over")
        else:
            words = child.last_words()
            outcome = Outcome(FAILED, message=child.ended() + (f": {words}" if words else ""))
        return Finding(name, outcome=outcome, seconds=round(self.clock.spent(), 1), **about).as_dict()

    def _found(self, finding: dict[str, Any]) -> None:
        self.findings.add(finding)
        for line in show.lines(finding):
            tqdm.write(line, file=sys.stderr)


def _title(spec: Mapping[str, Any]) -> str:
    """A group in words."""
    return f"{spec['group']} {Shape(**spec['shape']).name}" if "shape" in spec else spec["group"]
