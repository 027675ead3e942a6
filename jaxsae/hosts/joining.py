"""How a process finds the others of its run: flags, or a scheduler's word, and the first meeting at process 0."""

import dataclasses
import os
import socket
import sys
import threading
import time
from typing import Any, Literal

from jaxsae.config import check, check_positive, option
from jaxsae.errors import InputError
from jaxsae.hosts.cluster import Place, detect


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
            fits = bool(host) and "/" not in host and port.isdigit() and 0 < int(port) < 2**16
            check(fits, "coordinator", self.coordinator, "must be HOST:PORT, such as 10.0.0.1:9733")

    def place(self) -> Place | None:
        """This process's place among the others; None where it is alone.

        Raises:
          InputError: the environment is that of a cluster, but half of it.
        """
        if self.coordinator:
            return Place(self.coordinator, self.num_processes, self.process_id, None)
        return detect(self.join_timeout) if self.distributed == "auto" else None


_REMIND_SECONDS = 10.0


def connect(place: Place, config: JoinConfig, command: str) -> Any:
    """Joins the others; returns the client of jax's coordination service.

    jax's own failure is an abort of the process, so that time is kept here.

    Raises:
      InputError: the coordinator does not answer, or cannot serve.
    """
    began = time.monotonic()
    if place.process:
        _await_coordinator(place.coordinator, config.join_timeout)
    else:
        _check_port(place.coordinator)

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
    wait = f"waiting for {place.count} processes to join at {place.coordinator}, {config.join_timeout} s at most"
    reminder = threading.Timer(
        _REMIND_SECONDS, print, [f"jaxsae {command}: {wait}"], {"file": sys.stderr, "flush": True}
    )
    timer.daemon = reminder.daemon = True
    timer.start()
    if not place.process:
        reminder.start()
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
        reminder.cancel()
    return distributed.global_state.client


def _check_port(address: str) -> None:
    """Raises `InputError` where process 0 cannot serve; jax's own failure may be a segmentation fault."""
    port = int(address.rsplit(":", 1)[1])
    both = socket.has_dualstack_ipv6()
    try:
        socket.create_server(
            ("", port), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both
        ).close()
    except OSError as error:
        raise InputError(
            f"--coordinator={address}: this host cannot serve there ({error.strerror}). Where another program holds the "
            "port, give all processes another one."
        ) from None


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
