"""Joining the other processes of a run, and agreeing with them.

Without any of this a process is alone, and every function here does at once what it would do at the end.
"""

import dataclasses
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, TypeVar

from jaxsae.cluster import Place, detect
from jaxsae.config import check, check_positive, option
from jaxsae.errors import InputError
from jaxsae.watchdog import RESUME, Watchdog

__all__ = [
    "RESUME",
    "JoinConfig",
    "agree",
    "barrier",
    "beat",
    "breaks_off",
    "busy",
    "from_first",
    "gather",
    "is_alone",
    "joined",
    "leave",
    "watchdog",
]

T = TypeVar("T")
CLOCK_SKEW = 60.0  # seconds between two hosts' clocks that are worth a word


@dataclasses.dataclass(frozen=True)
class JoinConfig:
    """How a process finds the others of its run; the same flags in each but for `--process_id`."""

    distributed: Literal["auto", "off", "explicit"] = option(
        "auto",
        "auto: join the other processes where SLURM, Open MPI, a TPU slice or Kubernetes started several, or where the "
        "three flags below are given; explicit: by these flags alone; off: run alone",
    )
    coordinator: str = option("", "HOST:PORT of process 0, as all processes reach it")
    num_processes: int | None = option(None, "how many processes there are")
    process_id: int | None = option(None, "which of them this is, from 0")
    join_timeout: int = option(300, "seconds in which all processes must have joined")
    peer_timeout: float = option(
        120.0, "seconds after which a process that is not heard of, or a run in which none moves, ends in an error"
    )
    log_dir: str = option(
        "", "where the processes after the first write process-N.log; default: WORKDIR/logs, or ./jaxsae-logs"
    )

    def __post_init__(self):
        check_positive(self, "num_processes", "join_timeout")
        check(self.peer_timeout >= 1, "peer_timeout", self.peer_timeout, "must be at least 1 second")
        given = {n: getattr(self, n) for n in ("coordinator", "num_processes", "process_id")}
        missing = [f"--{name}" for name, value in given.items() if value in (None, "")]
        if self.distributed == "off":
            wrong = next((f"--{n}={v}" for n, v in given.items() if v not in (None, "")), None)
            check(wrong is None, "distributed", "off", f"goes against {wrong}; leave one of them out")
        elif missing and (self.distributed == "explicit" or len(missing) < 3):
            raise InputError(
                f"{', '.join(missing)}: missing. To join the other processes give all of --coordinator, "
                "--num_processes and --process_id, or --distributed=off to run alone."
            )
        if self.process_id is not None and self.num_processes is not None:
            fix = f"must be from 0 to --num_processes - 1 = {self.num_processes - 1}"
            check(0 <= self.process_id < self.num_processes, "process_id", self.process_id, fix)
        if self.coordinator:
            host, _, port = self.coordinator.rpartition(":")
            check(bool(host) and port.isdigit(), "coordinator", self.coordinator, "must be HOST:PORT")

    def place(self) -> Place | None:
        """This process's place among the others; None where it is alone.

        Raises:
          InputError: the environment is that of a cluster, but half of it.
        """
        if self.coordinator:
            return Place(self.coordinator, self.num_processes, self.process_id, None)
        return detect(self.join_timeout) if self.distributed == "auto" else None


_watchdog: Watchdog | None = None
_agreed = 0  # questions put so far; all processes put the same ones in the same order


@contextmanager
def joined(config: JoinConfig, command: str) -> Iterator[None]:
    """The run of one process among the others; of a process that is alone it does nothing.

    Raises:
      InputError: a half-made configuration, a coordinator that does not answer, processes that do not come.
    """
    global _watchdog, _agreed
    place = config.place()
    if place is None or place.count == 1:
        yield
        return
    client = _connect(place, config, command)
    _watchdog, _agreed = Watchdog(client, place.process, place.count, config.peer_timeout, command), 0
    try:
        _check_alike(place)
        yield
    finally:
        if sys.exc_info()[0] is None or not _fatal(sys.exc_info()[1]):
            _watchdog.close()
            _watchdog = None


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


def _connect(place: Place, config: JoinConfig, command: str) -> Any:
    """Joins; jax's own failure is an abort of the process, so that time is kept here."""
    began = time.monotonic()
    if place.process:
        _await_coordinator(place.coordinator, config.join_timeout)

    def late() -> None:
        print(
            f"jaxsae {command}: --coordinator={place.coordinator}: not all {place.count} processes joined within "
            f"{config.join_timeout} s (--join_timeout). See that each was started, with the same "
            "--num_processes and a --process_id of its own.",
            file=sys.stderr,
            flush=True,
        )
        os._exit(2)

    timer = threading.Timer(max(1.0, config.join_timeout - (time.monotonic() - began)), late)
    timer.daemon = True
    timer.start()
    import jax  # not before: `jaxsae --help` does without
    from jax._src import distributed  # the key-value store has no public name

    try:
        jax.distributed.initialize(
            place.coordinator,
            place.count,
            place.process,
            local_device_ids=place.devices,
            cluster_detection_method="deactivate",  # done already
            initialization_timeout=config.join_timeout + 60,
            # The watchdog's word comes first; this is for a process whose threads have all stopped.
            heartbeat_timeout_seconds=int(2 * config.peer_timeout) + 30,
            shutdown_timeout_seconds=int(config.peer_timeout) + 1,
        )
    finally:
        timer.cancel()
    return distributed.global_state.client


def _await_coordinator(address: str, timeout: float) -> None:
    host, port = address.rsplit(":", 1)
    deadline, reason = time.monotonic() + timeout, ""
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:
            reason = str(error)
            time.sleep(0.2)
    raise InputError(
        f"--coordinator={address}: does not answer after {timeout} s (--join_timeout): {reason}. See that process 0 "
        "runs, that this host reaches it by that name, and that no firewall closes the port."
    )


def _check_alike(place: Place) -> None:
    """Refuses processes of different versions or device counts, which would wait for each other for ever."""
    import jax

    import jaxsae

    agree(
        {"jaxsae": jaxsae.__version__, "jax": jax.__version__, "num_processes": place.count},
        "Install the same versions on every host, and give each process the same flags.",
    )
    clocks = [float(c) for c in gather("clock", str(time.time()))]
    if max(clocks) - min(clocks) > CLOCK_SKEW:
        from jaxsae.progress import say

        say(f"the hosts' clocks differ by {max(clocks) - min(clocks):.0f} s: times in logs do not compare.")


def is_alone() -> bool:
    """Whether there are no other processes."""
    return _watchdog is None


def gather(name: str, value: str) -> list[str]:
    """What each process says, in order of the processes; every process must ask."""
    global _agreed
    if _watchdog is None:
        return [value]
    _agreed += 1
    key = f"jaxsae/said/{_agreed}-{name}/"
    client = _watchdog._client
    client.key_value_set(f"{key}{_watchdog.process}", value)
    return [_get(client, f"{key}{process}") for process in range(_watchdog.count)]


def _get(client: Any, key: str) -> str:
    """Waits as long as the others live; the watchdog ends it otherwise."""
    while True:
        try:
            return client.blocking_key_value_get(key, 10_000)
        except RuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise


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
