"""metrics.jsonl and TensorBoard, from process 0; a resumed run drops the lines after its checkpoint."""

import errno
import json
import math
import os
import sys
import threading
import time
from pathlib import Path

from jaxsae.errors import is_disk_full, reraise_if_disk_full
from jaxsae.files import write_text
from jaxsae.progress import is_first_process


class MetricsLog:
    """Appends figures of log steps; a context."""

    def __init__(self, workdir: Path, first_step: int):
        self._file = self._board = None
        self._directory, self._full = workdir, threading.Event()
        if not is_first_process():
            return
        path = workdir / "metrics.jsonl"
        kept = [line for line in read_metrics(path) if line["step"] <= first_step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))  # a kill in between loses nothing
        self._file = path.open("a")
        # The queue must never be full: once the writer's thread has died of a full disk, a full queue holds the run for ever.
        self._board = _summary_writer()(
            str(workdir / "tensorboard"), purge_step=first_step + 1, max_queue=1000, flush_secs=30
        )

    def __enter__(self) -> "MetricsLog":
        # TensorBoard's writer is a thread of its own: where the disk is full the run says so, once.
        self._hook, threading.excepthook = threading.excepthook, self._quiet_if_disk_full
        return self

    def __exit__(self, *exception) -> None:
        try:
            if self._file:
                self._file.close()
                self._board.close()
        finally:
            threading.excepthook = self._hook

    def _quiet_if_disk_full(self, told) -> None:
        if not is_disk_full(told.exc_value):
            return self._hook(told)
        self._full.set()  # the thread is gone, and what is put into its queue from now on waits for ever

    def write(self, figures: dict[str, float | int]) -> None:
        """Adds one line; `figures` has `step`."""
        if not self._file:
            return
        if self._full.is_set():
            reraise_if_disk_full(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), str(self._directory))
        known = {name: value if math.isfinite(value) else None for name, value in figures.items()}  # JSON has no NaN
        self._file.write(json.dumps(known) + "\n")
        self._file.flush()
        for name, value in known.items():
            if name != "step" and value is not None:
                self._board.add_scalar(f"train/{name}", value, figures["step"])


def read_metrics(path: Path) -> list[dict]:
    """The complete lines of a metrics file; a line cut short by a kill is dropped."""
    lines = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


class Speed:
    """Rows a second since the last call."""

    def __init__(self):
        self._time, self._rows = time.perf_counter(), 0

    def __call__(self, rows: int) -> float:
        now = time.perf_counter()
        rate = (rows - self._rows) / max(now - self._time, 1e-9)
        self._time, self._rows = now, rows
        return rate


def _summary_writer() -> type:
    """TensorBoard's writer, without torch, which tensorboardX would import wherever it is installed."""
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None
    try:
        from tensorboardX import SummaryWriter
    finally:
        if hidden:
            del sys.modules["torch"]
    return SummaryWriter
