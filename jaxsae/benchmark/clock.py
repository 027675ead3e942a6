"""Wall and CPU seconds of calls, in turn, so that a noisy machine is noisy for all of them alike."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax


@dataclasses.dataclass(frozen=True)
class Timing:
    """Medians over the repeats: seconds by the clock, and CPU seconds of all threads of the process."""

    seconds: float
    cpu_seconds: float

    def times(self, factor: int) -> "Timing":
        """Of `factor` times as much work."""
        return Timing(factor * self.seconds, factor * self.cpu_seconds)


def time_in_turn(calls: Mapping[str, Callable[[int], Any]], repeats: int, warm_up: int = 2) -> dict[str, Timing]:
    """Times each call `repeats` times, round robin; a call gets the round's number and returns arrays."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for number in range(-warm_up, repeats):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            jax.block_until_ready(call(number))
            seconds = time.perf_counter() - wall, time.process_time() - cpu
            if number >= 0:
                taken[name].append(seconds)
    return {name: Timing(*map(statistics.median, zip(*rows, strict=True))) for name, rows in taken.items()}
