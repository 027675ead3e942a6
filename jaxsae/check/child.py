"""One worker process, watched: what it says is passed on, and one that dies, hangs or outlasts its time is ended."""

import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from jaxsae import interpreter
from jaxsae.check.findings import printable

UNUSABLE = 70  # exit status where the device does not answer after a check: the next one needs another process
TO_LEAVE = 5.0  # seconds that a process is given to end once it has nothing more to say
LAST_LINES = 3  # of a dead process's words, in the finding


class Child:
    """A worker on some checks; a context that leaves no process behind, nor any that the worker started."""

    def __init__(self, spec: Mapping[str, Any], environment: Mapping[str, str]):
        """Starts it; what `environment` sets holds where the user has not set it."""
        reading, writing = os.pipe()
        self._temporary = tempfile.TemporaryDirectory(prefix="jaxsae-check-", ignore_cleanup_errors=True)
        self._said = tempfile.TemporaryFile()  # noqa: SIM115, closed with the process
        unset = {name: value for name, value in environment.items() if name not in os.environ}
        self.process = subprocess.Popen(
            interpreter.command("jaxsae.check.worker", json.dumps(dict(spec) | {"pipe": writing})),
            pass_fds=[writing],
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=subprocess.STDOUT,
            env=interpreter.environment(unset | {"TMPDIR": self._temporary.name}),
            start_new_session=True,  # a group of its own, so that what it starts ends with it
        )
        os.close(writing)
        self._pipe = reading

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *exception) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self._wait()  # one that sits in a driver may not even be killed
        os.close(self._pipe)
        self._said.close()
        self._temporary.cleanup()

    def messages(self, until: "Clock") -> Iterator[dict[str, Any]]:
        """What it says, up to its end, or until the clock says so; the clock hears of each check that begins."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ)
            rest = b""
            while (left := until.left()) > 0:
                if not selector.select(left):
                    continue
                data = os.read(self._pipe, 2**16)
                if not data:
                    self._wait()
                    return
                *lines, rest = (rest + data).split(b"\n")
                yield from map(json.loads, lines)

    def _wait(self) -> None:
        """For its end, which comes at once or is not worth waiting for: what it found is told."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(TO_LEAVE)

    def last_words(self) -> str:
        """The end of what it printed."""
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return printable(" / ".join(line.strip() for line in lines[-LAST_LINES:]))[:400]

    def ended(self) -> str:
        """How it ended, in words."""
        status = self.process.poll()
        if status is None:
            return "it did not end in its time"
        if status < 0:
            with suppress(ValueError):
                return f"its process was ended by {signal.Signals(-status).name}"
        return f"its process ended with status {status}"


class Clock:
    """The time that is left for everything, and for the check at hand."""

    def __init__(self, seconds: float, most_of_one: float):
        self._end, self._most, self._began = time.monotonic() + seconds, most_of_one, time.monotonic()

    def begin(self) -> None:
        """A check begins."""
        self._began = time.monotonic()

    def left(self) -> float:
        """Seconds until the check at hand must have ended."""
        return min(self.of_all(), self._began + self._most - time.monotonic())

    def of_all(self) -> float:
        """Seconds until everything must have."""
        return self._end - time.monotonic()

    def spent(self) -> float:
        """Seconds of the check at hand."""
        return time.monotonic() - self._began
