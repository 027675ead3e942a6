"""What Orbax and TensorStore say beside the error they raise, which is hidden, and what they say before it.

A save that fails in one process of several is not raised there: Orbax first meets the other processes at a barrier,
and those may wait for this one's part at another, each for 20 minutes. What failed stands in Orbax's log at once.
"""

import logging
import sys
from collections.abc import Callable
from typing import Any

_LATE = "Event loop is closed"  # reads and writes of other arrays that end after the first one's error was raised
_WRITES = ("future", "async_checkpointer")  # modules of Orbax whose logged errors are those of a save


class _Kept(logging.Filter):
    """Hides what Orbax logs, and keeps the first error of a save."""

    def __init__(self):
        super().__init__()
        self.error: BaseException | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is shown."""
        if record.exc_info and record.exc_info[1] is not None and record.module in _WRITES and self.error is None:
            self.error = record.exc_info[1]
        return record.levelno >= logging.CRITICAL


_kept = _Kept()


def hide() -> None:
    """Leaves it to the run to say what matters to a user: one message, no traceback of each thread that failed."""
    log = logging.getLogger("absl")  # Orbax tells every save at INFO, and lists threads
    log.setLevel(logging.ERROR)
    log.addFilter(_kept)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # the same damage once more for every array
    if not hasattr(sys.excepthook, "without_late"):
        sys.excepthook = _without_late(sys.excepthook, lambda kind, error, trace: error)
    if not hasattr(sys.unraisablehook, "without_late"):  # TensorStore's threads come here
        sys.unraisablehook = _without_late(sys.unraisablehook, lambda told: told.exc_value)


def _without_late(hook: Callable[..., Any], error_of: Callable[..., Any]) -> Callable[..., Any]:
    def filtered(*told) -> None:
        if _LATE not in str(error_of(*told)):
            hook(*told)

    filtered.without_late = True
    return filtered


def forget() -> None:
    """A new save begins."""
    _kept.error = None


def of_save() -> BaseException | None:
    """The error of the save that runs, as soon as it is known in this process."""
    return _kept.error
