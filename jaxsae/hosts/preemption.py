"""SIGTERM, which clusters send before they take a machine away: finish what is in hand, save, leave with "resume me"."""

import signal
import threading
from types import FrameType

from jax.experimental import multihost_utils

from jaxsae.hosts import processes
from jaxsae.progress import say

AGAIN = "Start the same command again to go on."


class StopRequest:
    """A context in which SIGTERM to any process asks all of them to stop, each where it can."""

    def __init__(self):
        self._asked = threading.Event()
        self._before = None

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # elsewhere Python takes no handlers
            self._before = signal.signal(signal.SIGTERM, self._ask)
        if watchdog := processes.watchdog():
            watchdog.on_stop(self._asked.set)
        return self

    def __exit__(self, *exception) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked.set()
        if watchdog := processes.watchdog():
            watchdog.ask_to_stop()

    @property
    def asked(self) -> bool:
        """Whether to stop; processes learn of it at different times."""
        return self._asked.is_set()


class StopAtStep:
    """A context in which SIGTERM to any process stops all of them after the same step.

    Of several processes jax's coordination service names a step that none has passed; it has its own handler. A
    process that is alone has the handler above.
    """

    def __init__(self):
        self._alone = StopRequest() if processes.is_alone() else None

    def __enter__(self) -> "StopAtStep":
        if self._alone:
            self._alone.__enter__()
        return self

    def __exit__(self, *exception) -> None:
        if self._alone:
            self._alone.__exit__(*exception)

    @property
    def asked_alone(self) -> bool:
        """Whether to stop, at any time, where there are no other processes to agree with."""
        return self._alone is not None and self._alone.asked

    def reached(self, step: int) -> bool:
        """Whether to save after `step` and leave; asked after every step, with the same answer in every process."""
        if self._alone:
            return self._alone.asked
        if reached := multihost_utils.reached_preemption_sync_point(step):
            say(f"a process was asked to stop (SIGTERM): all save step {step}")
        return reached
