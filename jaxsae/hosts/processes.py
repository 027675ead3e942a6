"""The other processes of a run: working beside them, and agreeing with them.

Without any of this a process is alone, and every function here does at once what it would do at the end.
"""

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

from jaxsae.errors import InputError
from jaxsae.hosts.cluster import Place
from jaxsae.hosts.joining import JoinConfig, connect
from jaxsae.hosts.watchdog import RESUME, Watchdog
from jaxsae.version import __version__

__all__ = [
    "RESUME",
    "agree",
    "barrier",
    "beat",
    "breaks_off",
    "busy",
    "count_here",
    "from_first",
    "gather",
    "is_alone",
    "joined",
    "leave",
    "listen",
    "watchdog",
]

T = TypeVar("T")
CLOCK_SKEW = 60.0  # seconds between two hosts' clocks that are worth a word
NOTICE_SECONDS = 1.25  # in which jax passes a SIGTERM on to the other processes: it looks once a second


_watchdog: Watchdog | None = None
_here = 1  # processes of the run on this host
_agreed = 0  # questions put so far; all processes put the same ones in the same order


@contextmanager
def joined(config: JoinConfig, command: str) -> Iterator[None]:
    """The run of one process among the others; of a process that is alone it does nothing.

    Raises:
      InputError: a half-made configuration, a coordinator that does not answer, processes that do not come.
    """
    global _watchdog, _agreed, _here
    place = config.place()
    if place is None or place.count == 1:
        yield
        return
    client = connect(place, config, command)
    _watchdog, _agreed = Watchdog(client, place.process, place.count, config.peer_timeout, command), 0
    try:
        _check_alike(place)
        _here = gather("host", socket.gethostname()).count(socket.gethostname())
        yield
    finally:
        if sys.exc_info()[0] is None or not _fatal(sys.exc_info()[1]):
            _part()
            _watchdog.close()
            _watchdog, _here = None, 1


def _part() -> None:
    """Returns once no process can be told of a SIGTERM any more; they then leave together.

    A notice that goes out while another process is already gone from jax's preemption service is answered by nobody:
    who sent it waits for minutes, and its absence from jax's farewell makes that abort all of them.
    """
    if threading.current_thread() is threading.main_thread():  # elsewhere Python takes no handlers
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # this process is leaving anyway
    barrier("leaving")
    time.sleep(NOTICE_SECONDS)
    barrier("no more notices")


def _fatal(error: BaseException | None) -> bool:
    """Whether the others cannot go on without this process; what is left in good order has a status of its own."""
    return error is not None and not getattr(error, "in_good_order", False)


def breaks_off(error: BaseException | None) -> bool:
    """Whether `error` ends this process while others go on: nothing may then wait for them."""
    return _watchdog is not None and _fatal(error)


def leave(status: int, message: str) -> None:
    """Ends this process after an error, and tells the others why; returns only where it is alone."""
    if _watchdog is None:
        return
    _watchdog.fail(status, message)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # the usual way out would wait for the others, who wait for this process


def listen() -> None:
    """Ends this process where another one has said why it failed; what broke off here says less."""
    if _watchdog is not None:
        _watchdog.listen()


def _check_alike(place: Place) -> None:
    """Refuses processes of different versions or device counts, which would wait for each other for ever."""
    import jax

    agree(
        {"jaxsae": __version__, "jax": jax.__version__, "num_processes": place.count},
        "Install the same versions on every host, and give each process the same flags.",
    )
    clocks = [float(c) for c in gather("clock", str(time.time()))]
    if max(clocks) - min(clocks) > CLOCK_SKEW:
        from jaxsae.progress import say

        say(f"the hosts' clocks differ by {max(clocks) - min(clocks):.0f} s: times in logs do not compare.")


def is_alone() -> bool:
    """Whether there are no other processes."""
    return _watchdog is None


def count_here() -> int:
    """Processes of the run on this host, this one included."""
    return _here


def gather(name: str, value: str) -> list[str]:
    """What each process says, in order of the processes; every process must ask."""
    global _agreed
    if _watchdog is None:
        return [value]
    _agreed += 1
    key = f"jaxsae/said/{_agreed}-{name}/"
    _watchdog.tell(f"{key}{_watchdog.process}", value)
    return [_watchdog.told(f"{key}{process}") for process in range(_watchdog.count)]


def from_first(name: str, make: Callable[[], T]) -> T:
    """What `make()` returns in process 0, as JSON holds it, in every process."""
    if _watchdog is None:
        return make()
    with busy(name):
        mine = json.dumps(make()) if _watchdog.process == 0 else ""
        return json.loads(gather(name, mine)[0])


def agree(values: Mapping[str, Any], fix: str) -> None:
    """Raises `InputError` in every process where `values` are not the same in all of them."""
    said = [json.loads(text) for text in gather("agree", json.dumps(values, default=str))]
    for process, theirs in enumerate(said):
        for name, value in theirs.items():
            if value != said[0][name]:
                raise InputError(
                    f"process {process} has {name} = {value}, and process 0 has {said[0][name]}: "
                    f"the processes of a run must agree. {fix}"
                )


def barrier(name: str) -> None:
    """Returns when every process has come here."""
    gather(f"barrier {name}", "")


def beat(phase: str) -> None:
    """Tells the watchdog that this process has moved."""
    if _watchdog:
        _watchdog.beat(phase)


def busy(phase: str):
    """A context for work of unknown length that waits for no other process."""
    return _watchdog.busy(phase) if _watchdog else nullcontext()


def watchdog() -> Watchdog | None:
    """The watchdog of a run of several processes."""
    return _watchdog
