"""Who trains which member: claim files that only one worker can create, and a sign of life from each worker.

A claim on a member is a file `claims/MEMBER.G`, made with O_EXCL, which network file systems and mounted buckets
give too; the highest G holds. A member whose worker is lost is taken by making G + 1, so that of several takers one
wins and no file is ever moved or removed. A worker whose member was taken from it (its machine slept, say) sees that
before it saves.

A worker is lost where its process is gone, seen from the same machine, or where its file `claims/WORKER.beat` has not changed
for --lease seconds by the observer's own clock: clocks of hosts are never compared.
"""

import contextlib
import json
import math
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxsae.files import write_text

CLAIMS = "claims"


class Claims:
    """A worker's claims; a context in which it gives signs of life."""

    def __init__(self, sweep: Path, lease: float = math.inf):
        """`lease`: of the flag --lease; who looks but once needs none."""
        self.directory, self.lease = sweep / CLAIMS, lease
        self.me = {"worker": f"{_plain_host()}-{os.getpid()}-{secrets.token_hex(3)}", **_machine(), "pid": os.getpid()}
        self.me["born"] = _born(os.getpid())
        self._held: dict[str, int] = {}
        self._seen: dict[str, tuple[str, float]] = {}
        self._stop = threading.Event()

    def __enter__(self) -> "Claims":
        self.directory.mkdir(parents=True, exist_ok=True)
        self._beat(0)
        self._thread = threading.Thread(target=self._go_on, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception) -> None:
        self.release_all()
        self._stop.set()
        self._thread.join()
        self._beat_file(self.me["worker"]).unlink(missing_ok=True)

    def take(self, member: str) -> bool:
        """Claims a member that nobody holds, or whose worker is lost; True where it is this worker's now."""
        number, claim = self._newest(member)
        if claim is not None and not claim.get("released") and self.is_alive(claim):
            return False
        try:
            file = os.open(self._file(member, number + 1), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(file, "w", encoding="utf-8") as out:
            out.write(json.dumps(self.me))
        self._held[member] = number + 1
        return True

    def holds(self, member: str) -> bool:
        """Whether a claim that was made is still this worker's: no other took the member over."""
        return member in self._held and self._numbers(member)[-1:] == [self._held[member]]

    def release(self, member: str) -> None:
        """Gives a member back; any worker may take it."""
        number = self._held.pop(member)
        with contextlib.suppress(OSError):  # the next worker finds this one gone
            write_text(self._file(member, number), json.dumps(self.me | {"released": True}))

    def release_all(self) -> None:
        """Gives all members back."""
        for member in list(self._held):
            self.release(member)

    def holder(self, member: str) -> str | None:
        """The worker that trains a member now; None where none does."""
        _, claim = self._newest(member)
        if claim is None or claim.get("released") or not self.is_alive(claim):
            return None
        return claim.get("worker", "another")

    def workers(self, members: Iterable[str]) -> list[str]:
        """The workers that hold any of `members` now."""
        return sorted({w for m in members if (w := self.holder(m)) is not None})

    def is_alive(self, claim: dict[str, Any]) -> bool:
        """Whether the worker of a claim lives, as far as can be told from here."""
        if not claim:  # created, and not yet written: its worker is at work, or died in between
            return self._moves("claim being written", "")
        if all(claim.get(name) == value for name, value in _machine().items()):
            return _born(claim["pid"]) == claim["born"]
        try:
            beat = self._beat_file(claim["worker"]).read_text(encoding="utf-8")
        except OSError:
            beat = ""
        return self._moves(claim["worker"], beat)

    def _moves(self, worker: str, beat: str) -> bool:
        before, since = self._seen.get(worker, (None, 0.0))
        if before != beat:
            self._seen[worker] = beat, time.monotonic()
            return True
        return time.monotonic() - since < self.lease

    def _newest(self, member: str) -> tuple[int, dict[str, Any] | None]:
        """The number of the claim that holds, 0 where there is none, and what it says."""
        number = max(self._numbers(member), default=0)
        if not number:
            return 0, None
        try:
            return number, json.loads(self._file(member, number).read_text(encoding="utf-8") or "{}")
        except (OSError, json.JSONDecodeError):
            return number, {}

    def _numbers(self, member: str) -> list[int]:
        found = (path.name.rpartition(".")[2] for path in self.directory.glob(f"{member}.*"))
        exact = [int(n) for n in found if n.isdigit() and self._file(member, int(n)).exists()]
        return sorted(exact)

    def _file(self, member: str, number: int) -> Path:
        return self.directory / f"{member}.{number}"

    def _beat_file(self, worker: str) -> Path:
        return self.directory / f"{worker}.beat"

    def _beat(self, count: int) -> None:
        with contextlib.suppress(OSError):  # a full disk is told by whoever writes more than this
            write_text(self._beat_file(self.me["worker"]), str(count))

    def _go_on(self) -> None:
        count = 0
        while not self._stop.wait(self.lease / 6):
            self._beat(count := count + 1)


def _plain_host() -> str:
    return "".join(c if c.isalnum() else "-" for c in socket.gethostname()) or "host"


def _machine() -> dict[str, str]:
    """What two processes share that see each other's numbers: machine, start of it, namespace of processes."""
    boot, space = "", ""
    with contextlib.suppress(OSError):
        boot, space = Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")
    return {"host": socket.gethostname(), "boot": boot, "space": space}


def _born(pid: int) -> str | None:
    """When a process was started, in the kernel's ticks, since numbers of processes come again; None where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "alive"
