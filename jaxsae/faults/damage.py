"""What is done to runs and to files: signals at random moments, bytes flipped, files cut, disks filled."""

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxsae.faults.children import Children

SMALL_DISK = (250, 650)  # KiB: less than the run, in most cases more than its first checkpoint


def newest_checkpoint(run: Path) -> Path | None:
    """The directory of the newest complete checkpoint."""
    steps = [path for path in (run / "checkpoints").glob("*") if path.name.isdigit()]
    return max(steps, key=lambda path: int(path.name), default=None)


def last_step(run: Path) -> int:
    """The last step that a run has logged, 0 before the first."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines() if (run / "metrics.jsonl").exists() else []
    return max((int(line.split(",")[0].split(":")[1]) for line in lines if line.endswith("}")), default=0)


def moment(kind: str, run: Path, store: Path, rng: random.Random, steps: int, first: int = 1) -> Callable[[], bool]:
    """A test that becomes true at some time during a compilation, a step from `first` on, a save or a harvest."""
    if kind == "compile":
        at = time.monotonic() + rng.uniform(0.2, 3)
        return lambda: time.monotonic() > at
    if kind == "step":
        step = rng.randrange(first, steps - 5)
        return lambda: last_step(run) >= step
    if kind == "save":
        number, seen = rng.randrange(1, 4), set()
        return lambda: (
            seen.update(path.name for path in (run / "checkpoints").glob("*orbax-checkpoint-tmp*"))
            or len(seen) >= number
        )
    shards = rng.randrange(0, 6)
    return lambda: len(list((store / "stats").glob("*.json"))) >= shards and (store / "zarr.json").exists()


def strike(children: Children, which: str, what: signal.Signals, rng: random.Random) -> None:
    """Sends a signal to one process, chosen at random, or to all, one right after the other."""
    hit = range(children.count) if which == "all" else [rng.randrange(children.count)]
    for number in hit:
        children.signal(number, what)


def spoil(path: Path, how: str, rng: random.Random) -> Path:
    """Flips a bit of a file under `path`, or cuts it; larger files are likelier. Returns the file."""
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.stat().st_size)
    file = rng.choices(files, [file.stat().st_size for file in files])[0]
    content = bytearray(file.read_bytes())
    at = rng.randrange(len(content))
    if how == "flip":
        content[at] ^= 1 << rng.randrange(8)
    file.write_bytes(content if how == "flip" else content[:at])
    return file


@contextmanager
def small_disk(directory: Path, rng: random.Random) -> Iterator[str]:
    """Mounts a small file system at `directory`; yields "" or why that cannot be done here."""
    directory.mkdir(parents=True, exist_ok=True)
    if shutil.which("mount") is None:
        yield "there is no `mount` here"
        return
    mount = ["mount", "-t", "tmpfs", "-o", f"size={rng.randrange(*SMALL_DISK)}k", "tmpfs", str(directory)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        yield f"mounting a small file system is not allowed here ({done.stderr.strip()})"
        return
    try:
        yield ""
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=False)


def grow_disk(directory: Path) -> None:
    """Makes room on the small file system."""
    subprocess.run(["mount", "-o", "remount,size=64m", str(directory)], check=True, capture_output=True)
