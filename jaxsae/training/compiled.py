"""The compiled steps of several runs of one process."""

from typing import Any

from jaxsae.hosts import processes
from jaxsae.training.memory import MemoryPlan
from jaxsae.training.setup import Setup


class CompiledSteps:
    """Steps by what they are compiled from: runs that differ in seed, rate, length and the like share one."""

    def __init__(self):
        self._found: dict[tuple, tuple] = {}

    def of(self, setup: Setup) -> tuple[Any, MemoryPlan, int | None]:
        """As `Setup.compile`, once for all that compile to the same step."""
        key = setup.program.key
        if key not in self._found:
            with processes.busy("compiling the step"):
                self._found[key] = setup.compile()
        return self._found[key]
