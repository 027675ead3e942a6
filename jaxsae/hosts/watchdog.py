"""What the processes of a run know of each other while it runs: who is alive, who is stuck, who has failed.

Each process writes its pulse to the coordination service, which process 0 hosts, and reads all others'. A run
ends in an error, in every process, when one has failed, when one has not been heard of for `timeout` seconds, or
when none of them has moved for as long. jax's own heartbeats notice a dead process too, but not one that is stuck,
and end the survivors in an abort; here the longest wait is set and the message says who is missing.
"""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

PULSES = "jaxsae/pulse/"


class Watchdog:
    """Two threads beside the work: one talks to the coordination service, one judges what was heard."""

    def __init__(self, client: Any, process: int, count: int, timeout: float, command: str):
        """Starts to watch.

        Args:
          client: of jax's coordination service.
          process, count: this process's number, and how many there are.
          timeout: seconds after which silence, or standstill of all, ends the run.
          command: for messages.
        """
        self._client, self.process, self.count, self.timeout, self.command = client, process, count, timeout, command
        self._interval = min(2.0, timeout / 10)
        self._pulse = {"number": 0, "beats": 0, "phase": "joined", "host": socket.gethostname()}
        now = time.monotonic()
        self._seen: dict[int, dict[str, Any]] = {}
        self._heard = dict.fromkeys(range(count), now)
        self._moved = self._talked = now
        self._busy, self._lock, self._closed = 0, threading.Lock(), threading.Event()
        self._ending = threading.Lock()  # one thread has the last word; others wait for it until the process is gone
        self._on_stop: list[Callable[[], None]] = []
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._talk, self._judge)]
        for thread in self._threads:
            thread.start()

    def beat(self, phase: str) -> None:
        """Says that this process has moved, and what it does now."""
        self._pulse["phase"] = phase
        self._pulse["beats"] += 1

    @contextmanager
    def busy(self, phase: str) -> Iterator[None]:
        """For work of unknown length that waits for no other process: it counts as moving."""
        self.beat(phase)
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            self.beat(f"after: {phase}")

    def tell(self, key: str, value: str) -> None:
        """Leaves a word for every process, once for a key."""
        self._client.key_value_set(key, value)

    def told(self, key: str) -> str:
        """A word that some process leaves: waits for it as long as the others live; the watch ends it otherwise."""
        while True:
            try:
                return self._client.blocking_key_value_get(key, 10_000)
            except RuntimeError as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise

    def on_stop(self, call: Callable[[], None]) -> None:
        """`call` is called once some process has asked all to stop."""
        self._on_stop.append(call)

    def ask_to_stop(self) -> None:
        """Asks every process, this one too, to stop where it can; safe in a signal handler."""
        self._pulse["stop"] = True

    def fail(self, status: int, message: str) -> None:
        """Tells the others that this process ends, so that they need not wait; returns when they know."""
        self._pulse["failed"] = {"status": status, "message": message}
        self._wait_until_all(lambda pulse: "failed" in pulse or "noted" in pulse)

    def listen(self) -> None:
        """Ends this process with what another one says of its failure, where one has; waits where that has begun."""
        with suppress(RuntimeError):  # process 0 has gone or is not reached; how long for is judged by the other thread
            self._exchange()
        for process, pulse in list(self._seen.items()):
            if "failed" in pulse and process != self.process and "failed" not in self._pulse:
                self._pulse["noted"] = True
                told = pulse["failed"]
                # The service ends with process 0, which therefore leaves last.
                wait = self.process == 0
                self._end(told["status"], f"process {process} ({pulse['host']}) failed: {told['message']}", wait)
        with self._ending:
            pass

    def close(self) -> None:
        """The work is done; the other processes no longer wait for this one."""
        self._pulse["done"] = True
        self._closed.set()
        for thread in self._threads:
            thread.join(5)
        with suppress(RuntimeError):  # process 0 may have gone already
            self._exchange()

    def _exchange(self) -> None:
        """Writes this process's pulse, reads the others'."""
        with self._lock:
            self._pulse["number"] += 1
            self._pulse["beats"] += self._busy > 0
            self._client.key_value_set(f"{PULSES}{self.process}", json.dumps(self._pulse), allow_overwrite=True)
            pulses = {int(k.rsplit("/", 1)[1]): json.loads(v) for k, v in self._client.key_value_dir_get(PULSES)}
            now = self._talked = time.monotonic()
            for process, pulse in pulses.items():
                before = self._seen.get(process, {})
                if pulse["number"] != before.get("number"):
                    self._heard[process] = now
                if pulse["beats"] != before.get("beats"):
                    self._moved = now
                self._seen[process] = pulse

    def _talk(self) -> None:
        while not self._closed.wait(self._interval):
            self.listen()
            if any(pulse.get("stop") for pulse in self._seen.values()):
                while self._on_stop:
                    self._on_stop.pop()()

    def _judge(self) -> None:
        while not self._closed.wait(self._interval):
            now = time.monotonic()
            if now - self._talked > self.timeout:
                self._end(1, f"process 0 has not answered for {self.timeout:g} s (--peer_timeout). {RESUME}")
            for process, heard in self._heard.items():
                if now - heard > self.timeout and not self._seen.get(process, {}).get("done"):
                    text = f"{self._name(process)} has not been heard of for {self.timeout:g} s (--peer_timeout)"
                    self._end(1, f"{text}. {RESUME}", wait=True)
            if now - self._moved > self.timeout:
                listed = "; ".join(self._name(p) for p in range(self.count))
                text = f"no process has moved for {self.timeout:g} s (--peer_timeout): {listed}"
                self._end(1, f"{text}. {RESUME}", wait=True)

    def _name(self, process: int) -> str:
        pulse = self._seen.get(process)
        return f"process {process}" + (f" ({pulse['host']}, last at: {pulse['phase']})" if pulse else "")

    def _end(self, status: int, message: str, wait: bool = False) -> None:
        """Ends this process from here, since its main thread may wait for ever."""
        if self._closed.is_set():
            return
        with self._ending:
            self._pulse.setdefault("failed", {"status": status, "message": message})
            if wait:
                self._wait_until_all(lambda pulse: "failed" in pulse or "noted" in pulse)
            print(f"jaxsae {self.command}: {message}", file=sys.stderr, flush=True)
            os._exit(status)

    def _wait_until_all(self, ready: Callable[[dict[str, Any]], bool]) -> None:
        deadline = time.monotonic() + 3 * self._interval + 1
        while time.monotonic() < deadline:
            try:
                self._exchange()
            except RuntimeError:
                return
            others = [pulse for process, pulse in self._seen.items() if process != self.process]
            if len(others) == self.count - 1 and all(ready(p) or p.get("done") for p in others):
                break
            time.sleep(self._interval / 8)
        if self.process == 0:  # the service ends with this process: the others first, who would be aborted
            time.sleep(self._interval / 2)


RESUME = "End what is left of the run and start the same command again: it goes on from what it has saved"
