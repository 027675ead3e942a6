"""metrics.jsonl and TensorBoard, from process 0; a resumed run drops the lines after its checkpoint."""

import json
import math
import os
import sys
import time
from pathlib import Path

from jaxsae.files import write_text
from jaxsae.progress import is_first_process


class MetricsLog:
    """Appends figures of log steps; a context.

    A disk that is full ends the call that finds it so, with an OSError.
    """

    def __init__(self, workdir: Path, first_step: int):
        self._file = self._board = None
        if not is_first_process():
            return
        path = workdir / "metrics.jsonl"
        kept = [line for line in read_metrics(path) if line["step"] <= first_step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))  # a kill in between loses nothing
        self._file = path.open("a", encoding="utf-8")
        self._board = Board(workdir / "tensorboard", first_step + 1)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *exception) -> None:
        if self._file:
            try:
                self._file.close()
            finally:
                self._board.close()

    def write(self, figures: dict[str, float | int]) -> None:
        """Adds one line; `figures` has `step`."""
        if not self._file:
            return
        known = {name: value if math.isfinite(value) else None for name, value in figures.items()}  # JSON has no NaN
        self._file.write(json.dumps(known) + "\n")
        self._file.flush()
        self._board.write({_tag(n): v for n, v in known.items() if n != "step" and v is not None}, figures["step"])


def _tag(name: str) -> str:
    """The scalar's name on the board: held_out/fvu of held_out_fvu, train/fvu of fvu."""
    return f"held_out/{name.removeprefix('held_out_')}" if name.startswith("held_out_") else f"train/{name}"


FLUSH_SECONDS = 30  # of scalars that a kill may cost the board; metrics.jsonl has them


class Board:
    """An event file of TensorBoard, written in the caller's thread.

    tensorboardX's SummaryWriter writes in a thread of its own, behind a queue: where the disk is full the thread dies,
    perhaps long after its run has ended, and the queue fills up and holds the run for ever.
    """

    def __init__(self, directory: Path, first_step: int):
        """What earlier files hold of `first_step` and later steps is no longer shown."""
        board = _tensorboard()
        self._event, self._scalar = board.proto.event_pb2.Event, board.summary.scalar
        directory.mkdir(parents=True, exist_ok=True)
        # Names go by the second, and what is there is overwritten: a run resumed within it takes a name of its own.
        suffix = f".{os.getpid()}.{first_step}"
        self._writer = board.event_file_writer.EventsWriter(str(directory / "events"), suffix)
        started = board.proto.event_pb2.SessionLog(status=board.proto.event_pb2.SessionLog.START)
        self._writer.write_event(self._event(wall_time=time.time(), step=first_step, session_log=started))
        self._flushed = time.monotonic()

    def write(self, scalars: dict[str, float | int], step: int) -> None:
        """Adds scalars of one step."""
        for name, value in scalars.items():
            self._writer.write_event(self._event(wall_time=time.time(), step=step, summary=self._scalar(name, value)))
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._writer.flush()  # waits for the disk
            self._flushed = time.monotonic()

    def close(self) -> None:
        self._writer.close()


def read_metrics(path: Path) -> list[dict]:
    """The complete lines of a metrics file; a line cut short by a kill is dropped."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
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


def _tensorboard():
    """tensorboardX, without torch, which it would import wherever it is installed."""
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None
    try:
        import tensorboardX
        import tensorboardX.event_file_writer
        import tensorboardX.proto.event_pb2
        import tensorboardX.summary
    finally:
        if hidden:
            del sys.modules["torch"]
    return tensorboardX
