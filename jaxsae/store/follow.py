"""Reading a store while it is written: waiting for shards, and removing those that were trained on.

Batches of such a run mix rows within windows of a few shards, in the order in which shards are written, so that
they are the same whenever a shard arrives; the activations are scaled by the first window's statistics.
"""

import threading
import time
from collections.abc import Callable, Sequence

from jaxsae.errors import InputError, Preempted
from jaxsae.hosts import processes
from jaxsae.hosts.preemption import AGAIN
from jaxsae.progress import say
from jaxsae.store.reader import Store
from jaxsae.store.schema import site_path

WINDOW_SHARDS = 4
POLL_SECONDS, REMIND_SECONDS = 0.5, 60.0


def wait_until(ready: Callable[[], object], what: Callable[[], str], give_up: Callable[[], object]) -> bool:
    """Waits for `ready()`, saying `what()` at once and then each minute; False once `give_up()`."""
    said = float("-inf")
    while not ready():
        if give_up():
            return False
        if time.monotonic() - said > REMIND_SECONDS:
            said = time.monotonic()
            say(what())
        processes.beat("waiting for shards")
        time.sleep(POLL_SECONDS)
    return True


def open_growing(url: str, give_up: Callable[[], object]) -> Store:
    """The store at `url`, once it is there with all its arrays; raises `Preempted` once `give_up()`."""
    found: list[Store] = []

    def ready() -> bool:
        try:
            found.append(Store(url))
        except InputError as error:
            reasons.append(str(error))
        return bool(found)

    reasons: list[str] = []
    if not wait_until(ready, lambda: f"waiting for the harvest to begin ({reasons[-1]})", give_up):
        raise Preempted(f"{url}: stopped by SIGTERM while it waited for the harvest to begin. {AGAIN}")
    return found[-1]


class Shards:
    """The shards of a store as they come and go; threads may share it."""

    def __init__(self, store: Store, site: str):
        self.store, self.site = store, site
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._looked = 0.0

    @property
    def window_rows(self) -> int:
        """Rows that are mixed with each other."""
        return WINDOW_SHARDS * self.store.shard_rows

    @property
    def row_bytes(self) -> int:
        """Bytes of a row's activations."""
        return self.store.d_model(self.site) * self.store.dtype(self.site).itemsize

    def bytes_needed(self, steps: int, batch_size: int) -> int:
        """What a run must be allowed to keep so that it never waits for shards that have no room: the windows that it
        reads and that its oldest checkpoint, `steps` back, began in, what is read ahead, and shards being written."""
        rows = 2 * self.window_rows + 2 * max(self.window_rows // 4, batch_size) + 2 * self.store.shard_rows
        return (rows + steps * batch_size) * self.row_bytes

    def first_window(self, give_up: Callable[[], object]) -> list[int]:
        """The shards whose statistics scale the activations; waits for them, or raises `Preempted` once `give_up()`."""
        planned = -(-self.store.rows_planned // self.store.shard_rows)
        shards = list(range(min(WINDOW_SHARDS, planned)))
        if not wait_until(lambda: set(shards) <= self._known(), lambda: self._waiting(shards), give_up):
            raise Preempted(f"{self.store.url}: stopped by SIGTERM while it waited for the first shards. {AGAIN}")
        return shards

    def has(self, ranges: Sequence[tuple[int, int]]) -> bool:
        """Whether rows can be read now.

        Raises:
          InputError: they were removed.
        """
        needed = self._shards_of(ranges)
        there = set(self.store.completed_shards)
        if needed <= there:
            return True
        self._known()
        if gone := needed & self.store.consumed:
            raise InputError(
                f"--store={self.store.url}: shard {min(gone)} was removed by --keep_bytes, and this run needs it. "
                "Harvest into another --store."
            )
        return needed <= set(self.store.completed_shards)

    def wait(self, ranges: Sequence[tuple[int, int]], give_up: Callable[[], object]) -> bool:
        """Waits until rows can be read, and says for what; False once `give_up()`."""
        needed = sorted(self._shards_of(ranges))
        return wait_until(lambda: self.has(ranges), lambda: self._waiting(needed), give_up)

    def wait_quietly(self, ranges: Sequence[tuple[int, int]]) -> None:
        """The same for a thread that reads ahead: it says nothing, and raises once this is closed."""
        while not self.has(ranges):
            if self._closed.wait(POLL_SECONDS):
                raise RuntimeError("the reader was closed")

    def close(self) -> None:
        """Ends all waiting."""
        self._closed.set()

    def remove_below(self, row: int, keep_bytes: int) -> list[int]:
        """Removes shards that end at or below `row`, oldest first, until half of `keep_bytes` is left; returns them.

        The other half is room for the harvest to go on.
        """
        self._known()
        there, shard_bytes = self.store.completed_shards, self.store.shard_rows * self.row_bytes
        excess = max(0, -(-(len(there) * shard_bytes - keep_bytes // 2) // shard_bytes))
        gone = [shard for shard in there if (shard + 1) * self.store.shard_rows <= row][:excess]
        self.store.remove(self.site, gone)
        return gone

    def _shards_of(self, ranges: Sequence[tuple[int, int]]) -> set[int]:
        rows = self.store.shard_rows
        return {shard for start, stop in ranges for shard in range(start // rows, -(-stop // rows))}

    def _known(self) -> set[int]:
        """Shards that are there or were, by a listing at most `POLL_SECONDS` old."""
        with self._lock:
            if time.monotonic() - self._looked > POLL_SECONDS / 2:
                self.store.refresh()
                self._looked = time.monotonic()
            return set(self.store.completed_shards) | self.store.consumed

    def _waiting(self, needed: Sequence[int]) -> str:
        missing = sorted(set(needed) - self._known())
        planned = -(-self.store.rows_planned // self.store.shard_rows)
        return (
            f"{self.store.url}: waiting for shard {missing[0] if missing else needed[-1]} of {planned} "
            f"({site_path(self.site)}); {len(self._known())} are written"
        )
