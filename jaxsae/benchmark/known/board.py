"""Collects the figures of all that is judged, run by run, and tells each as it comes."""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

from jaxsae.benchmark.known.config import EQUAL_L0, PEER
from jaxsae.benchmark.known.judge import Candidate
from jaxsae.benchmark.known.table import line, summarised
from jaxsae.progress import say


@dataclasses.dataclass
class Board:
    """Runs by what they are.

    Attributes:
      total: how many there will be, baselines aside. k: the L0 that is asked for.
      methods, baselines: {name: runs}. peers: {name: runs}, several of the first seed, one for each rate.
    """

    total: int
    k: int
    methods: dict[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)
    peers: dict[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)
    baselines: dict[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)

    def take(
        self,
        runs: dict[str, list[dict[str, Any]]],
        name: str,
        make: Callable[[], Candidate],
        judged: Callable[[Candidate], dict[str, Any]],
        **about: float,
    ) -> None:
        """Makes a dictionary, has it judged, and keeps the figures among `runs`, one of this board's.

        Args:
          about: the seed, and what else stands with the figures.
        """
        began = time.perf_counter()
        candidate = make()
        seconds = time.perf_counter() - began
        found = about | judged(candidate) | {"seconds": seconds}
        runs.setdefault(name, []).append(found)
        if runs is not self.baselines:
            done = sum(len(of_one) for of_one in [*self.methods.values(), *self.peers.values()])
            words = ", ".join(f"{word.replace('_', ' ')} {value:g}" for word, value in about.items())
            whose = f"{PEER} {name}" if runs is self.peers else name
            say(line(f"{done} of {self.total}, {whose}, {words}", found))

    def best_rate(self, name: str) -> float:
        """The learning rate at which the first seed came to the lowest FVU at the L0 that was asked for; where it came to
        that at none, at which it came nearest to it."""
        seed = self.peers[name][0]["seed"]
        return min((run for run in self.peers[name] if run["seed"] == seed), key=self._rank)["learning_rate"]

    def _rank(self, run: dict[str, Any]) -> tuple[float, float]:
        off = abs(run["l0"] / self.k - 1)  # more active latents have a lower FVU, whatever they are
        return off if off > EQUAL_L0 else 0.0, math.inf if run["fvu"] is None else run["fvu"]

    def figures(self) -> dict[str, Any]:
        """`methods`, `peers` ({"saelens": {name: ...}}) and `baselines`, with means and standard errors over the seeds."""
        every = lambda runs: {name: summarised(of_one) for name, of_one in runs.items()}
        peers = {name: self._peer(name, runs) for name, runs in self.peers.items()}
        return {
            "methods": every(self.methods),
            "peers": {PEER: peers} if peers else {},
            "baselines": every(self.baselines),
        }

    def _peer(self, name: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
        rate = self.best_rate(name)
        rates = [run for run in runs if run["seed"] == runs[0]["seed"]]
        tried = sorted(run["learning_rate"] for run in rates)
        end = {tried[-1]: "highest", tried[0]: "lowest"}.get(rate) if len(tried) > 1 else None
        best = [run for run in runs if run["learning_rate"] == rate]
        return {"learning_rate": rate, "at_end": end, "rates": rates} | summarised(best)
