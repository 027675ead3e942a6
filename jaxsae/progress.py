"""Progress for long work: a bar with rate and ETA on a terminal, in one process of many, silence elsewhere."""

import queue
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import jax
from tqdm import tqdm

T = TypeVar("T")
_log_dir: Path | None = None
_hushed = False


def is_first_process() -> bool:
    """True in the process that writes logs and progress."""
    return jax.process_index() == 0


class Progress:
    """A tqdm bar that only process 0 draws, and only on a terminal."""

    def __init__(self, total: int, description: str, unit: str, initial: int = 0, scale: bool = False):
        quiet = not (sys.stderr.isatty() and is_first_process())
        self._bar = tqdm(
            total=total, desc=description, unit=unit, initial=initial, disable=quiet, unit_scale=scale, smoothing=0.05
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception) -> None:
        self._bar.close()

    def advance(self, count: int, **figures: float | str) -> None:
        """Moves on by `count`; `figures` stand behind the rate."""
        if figures:
            self._bar.set_postfix(figures, refresh=False)
        self._bar.update(count)


def log_under(directory: Path) -> None:
    """Names the directory in which the processes after the first say what they have to say."""
    global _log_dir
    _log_dir = directory


@contextmanager
def hushed() -> Iterator[None]:
    """Within it `say` says nothing: what is done there is a part of something that speaks for itself."""
    global _hushed
    before, _hushed = _hushed, True
    try:
        yield
    finally:
        _hushed = before


def say(*lines: str) -> None:
    """Prints lines for people, from process 0, on standard error (standard output is for results).

    The other processes write theirs to process-N.log, with the time.
    """
    if _hushed:
        return
    if is_first_process():
        for line in lines:
            tqdm.write(line, file=sys.stderr)
    elif _log_dir is not None:
        _log_dir.mkdir(parents=True, exist_ok=True)
        with (_log_dir / f"process-{jax.process_index()}.log").open("a", encoding="utf-8") as log:
            log.writelines(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n" for line in lines)


def prefetched(items: Iterator[T], depth: int) -> Iterator[T]:
    """The same items, made up to `depth` ahead in a thread; an error in the thread is raised here."""
    ready: queue.Queue = queue.Queue(depth)
    stop = threading.Event()

    def put(entry: tuple) -> None:
        while not stop.is_set():
            try:
                return ready.put(entry, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put((item, None))
                if stop.is_set():
                    return
            put((None, StopIteration()))
        except BaseException as error:  # handed to the reader, who raises it
            put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        stop.set()
