"""What trials are compared with: a small store and a run on it that nothing befell."""

import os
import shutil
from pathlib import Path

import numpy as np

from jaxsae.errors import InputError
from jaxsae.faults.children import Children
from jaxsae.training.checkpoint import read_metadata

BATCH, ROWS, D = 64, 4096, 16
STEPS, EVERY = 40, 8  # of a run, and between its checkpoints


class Undisturbed:
    """The store and the run of a working directory, made anew, and the commands that make such ones."""

    def __init__(self, workdir: Path, hang_seconds: float):
        self.workdir, self.hang_seconds = workdir, hang_seconds
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(workdir / "compiled"))
        os.environ |= {
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        rng = np.random.default_rng(0)
        active = rng.random((ROWS, 32)) * (rng.random((ROWS, 32)) < 0.1)
        rows = active @ rng.normal(size=(32, D)) + rng.normal(size=D) + 0.05 * rng.normal(size=(ROWS, D))
        np.save(workdir / "rows.npy", rows.astype(np.float32))
        self.store, alone = workdir / "store", workdir / "alone"
        for directory in (self.store, alone):
            shutil.rmtree(directory, ignore_errors=True)
        self._expect(self.command("harvest", self.store), 1, 1)
        self._expect(self.command("train", alone, self.store), 1, 4)
        self.expected_store, self.expected_run = files(self.store), bits(alone)

    def command(self, name: str, place: Path, store: Path | None = None) -> list[str]:
        """A small `harvest` to `place`, or a `train` there on `store`."""
        if name == "harvest":
            sizes = ["--shard_rows=512", "--chunk_rows=64"]
            return ["harvest", "--source=arrays", f"--input={self.workdir / 'rows.npy'}", f"--store={place}", *sizes]
        shape = ["--width=512", "--k=4", f"--batch_size={BATCH}", f"--tokens={STEPS * BATCH}"]
        how = ["--mesh=2,2", f"--checkpoint_every={EVERY}", "--log_every=1", "--learning_rate=0.003"]
        return ["train", f"--store={store}", f"--workdir={place}", *shape, *how]

    def _expect(self, command: list[str], count: int, devices: int) -> None:
        with Children(self.workdir / "output", command, count, devices) as children:
            if children.wait(self.hang_seconds) != [0] * count:
                raise InputError(f"--workdir={self.workdir}: the undisturbed run failed already:\n{children.output()}")


def bits(run: Path) -> tuple[int, dict[str, int]]:
    """The newest step of a run, and the sums of the bits of all its arrays; both were checked when they were read."""
    step, metadata = read_metadata(run / "checkpoints")
    return step, metadata["sums"]


def files(store: Path) -> dict[str, bytes]:
    """Every file of a store; what a killed writer leaves beside them (a lock) does not count."""
    found = {str(f.relative_to(store)): f.read_bytes() for f in sorted(store.rglob("*")) if f.is_file()}
    return {name: content for name, content in found.items() if "__lock" not in name}
