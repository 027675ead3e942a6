"""Checkpoints through Orbax: what a run needs to go on, and what a dictionary needs to be used.

A checkpoint has two parts, so that a reader of the dictionary never touches the moments: `dictionary`
(parameters, their average, normalisation, counts) and `training` (moments, dead-latent counters). Its
configuration stands in the custom metadata, with a sum of every array's bits: Orbax notices a file cut
short, but a flipped bit in an array of some size it hands on.
"""

import dataclasses
import json
import shutil
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from orbax.checkpoint import v1 as ocp

from jaxsae.errors import InputError, reraise_if_disk_full
from jaxsae.files import bytes_under
from jaxsae.hosts import processes
from jaxsae.training import orbax_errors
from jaxsae.training.kept import Kept
from jaxsae.training.layouts import FORMAT, READABLE, as_used, as_written
from jaxsae.training.state import TrainState
from jaxsae.training.sums import sums_of_bits

LOOK_EVERY = 0.5  # seconds between two looks at how much of a save is written
_IN_DICTIONARY = ("step", "params", "skipped", "average", "threshold", "mean", "scale")
_IN_TRAINING = ("moments", "since_fired", "control", "frequency", "opponent")


def _split(state: TrainState) -> dict[str, dict[str, Any]]:
    pick = lambda names: {n: getattr(state, n) for n in names if getattr(state, n) is not None}
    parts = {"dictionary": pick(_IN_DICTIONARY), "training": pick(_IN_TRAINING)}
    return {name: part for name, part in parts.items() if part}  # a run that was imported has no `training`


class Checkpoints:
    """The checkpoints of a run; a context that waits for what is still being written."""

    _saving: "Checkpoints | None" = None  # of several processes: those of this process that were saved last

    def __init__(self, directory: Path, keep: int = 2, before_fall: int | None = None):
        """`keep`: how many of the newest stay; beside them, the newest up to step `before_fall`."""
        orbax_errors.hide()
        orbax_errors.forget()  # those of another run in this process
        self.directory = Path(directory).absolute()
        self._saver = _open(
            self.directory,
            preservation_policy=Kept(keep, before_fall),
            cleanup_tmp_directories=True,
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind, error, trace) -> None:
        if processes.breaks_off(error):
            return  # Orbax would wait for the others, who wait for this process
        if Checkpoints._saving is self:
            Checkpoints._saving = None
        with suppress(Exception) if error else self._writing():  # the first error is the one to show
            self._saver.close()

    @property
    def latest(self) -> int | None:
        """The newest complete checkpoint's step."""
        return max(self.steps, default=None)

    @property
    def steps(self) -> list[int]:
        """The steps of the complete checkpoints, rising."""
        return [c.step for c in self._saver.checkpoints]

    @property
    def oldest(self) -> int | None:
        """The oldest complete checkpoint's step."""
        return min(self.steps, default=None)

    def metadata(self, step: int) -> dict[str, Any]:
        """What a checkpoint says besides its arrays; raises as `read_metadata`."""
        return _metadata(self._saver, self.directory, step)

    def remove(self, steps: Iterable[int]) -> None:
        """Removes checkpoints, in one process; a kill leaves each whole or as one that was never finished."""
        for step in steps:
            unfinished = (self.directory / str(step)).rename(self.directory / f"{step}.orbax-checkpoint-tmp")
            shutil.rmtree(unfinished)

    def reload(self) -> None:
        """Looks again at which checkpoints there are."""
        self._saver.reload()

    def save(self, step: int, state: TrainState, metadata: dict[str, Any]) -> None:
        """Starts to write a checkpoint in the background; a step that is already there is left as it is.

        Raises:
          DiskFullError: this save, or the one before it, found no room.
        """
        if self.latest == step:
            return
        if not processes.is_alone():  # Orbax has them meet under names that saves of two runs have in common
            if Checkpoints._saving:
                Checkpoints._saving.wait()
            Checkpoints._saving = self
        with self._writing():
            self._finish()
            processes.beat(f"saving step {step}")
            parts = _split(state)
            described = _sealed({"format": FORMAT, **metadata, "sums": sums_of_bits(parts)})
            self._saver.save_checkpointables_async(step, parts, force=True, custom_metadata=described)

    def wait(self) -> None:
        """Returns when the last save is on disk."""
        with self._writing():
            self._finish()

    def check(self) -> None:
        """Raises what the save in the background has failed of, as soon as that is known; costs nothing."""
        if error := orbax_errors.of_save():
            with self._writing():
                raise error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Says in one line that the disk is full, where it is."""
        try:
            yield
        except Exception as error:
            reraise_if_disk_full(error, str(self.directory))
            raise

    def _finish(self) -> None:
        """Waits for the last save, and in a run of several processes no longer than it moves.

        There Orbax's own wait is without end: the process whose part failed waits for the others to come to where it
        is, and they for its part.
        """
        size, looked = None, 0.0
        while not processes.is_alone() and self._saver.is_saving_in_progress():
            if error := orbax_errors.of_save():
                raise error
            if time.monotonic() - looked > LOOK_EVERY:
                # What changes it is a save that goes on.
                size, before, looked = bytes_under(self.directory), size, time.monotonic()
                if size != before:
                    processes.beat("waiting for the last save")
            time.sleep(0.01)
        self._saver.wait()
        orbax_errors.forget()

    def restore(self, step: int, abstract: TrainState) -> TrainState:
        """The state of a step, on the shardings of `abstract`.

        Raises:
          InputError: the checkpoint is damaged, or another run's: of another d_model.
        """
        metadata = self.metadata(step)
        if metadata["d_model"] != (d_model := abstract.params.W_enc.shape[1]):
            raise InputError(
                f"{self.directory}/{step}: trained on activations of d_model {metadata['d_model']}, and the store has "
                f"d_model {d_model} now. Give the --store of this run, or another --workdir."
            )
        parts = _load(self._saver, self.directory, step, _split(abstract), metadata)
        return dataclasses.replace(abstract, **parts["dictionary"], **parts["training"])


def read_metadata(directory: Path, step: int | None = None) -> tuple[int, dict[str, Any]]:
    """A step under `directory`, the newest where none is named, and its metadata.

    Raises:
      InputError: there is no checkpoint, or one that another tool or version wrote.
    """
    orbax_errors.hide()
    if not directory.is_dir():
        raise InputError(f"{directory}: no checkpoints here. Give a directory that `jaxsae train` or `import` wrote.")
    with _open(directory.absolute()) as reader:
        if reader.latest is None:
            raise InputError(f"{directory}: holds no complete checkpoint. Run the same `jaxsae train` again.")
        steps = [c.step for c in reader.checkpoints]
        if step is not None and step not in steps:
            raise InputError(f"{directory}/{step}: no such checkpoint. There are: {', '.join(map(str, steps))}.")
        step = steps[-1] if step is None else step
        return step, _metadata(reader, directory, step)


def read_dictionary(directory: Path, step: int, abstract: dict[str, Any]) -> dict[str, Any]:
    """The `dictionary` part of a checkpoint, on the shardings of `abstract`."""
    with _open(directory.absolute()) as reader:
        metadata = _metadata(reader, directory, step)
        return _load(reader, directory, step, {"dictionary": abstract}, metadata)["dictionary"]


def _sealed(metadata: dict[str, Any]) -> dict[str, Any]:
    """Metadata with a checksum of themselves."""
    text = json.dumps({name: value for name, value in metadata.items() if name != "crc32"}, sort_keys=True)
    return {**metadata, "crc32": zlib.crc32(text.encode())}


def _open(directory: Path, **options) -> ocp.training.Checkpointer:
    """Orbax's view of a directory of checkpoints; it reads the metadata of all of them."""
    try:
        return ocp.training.Checkpointer(directory, **options)
    except Exception as error:
        reraise_if_disk_full(error, str(directory))
        for path in sorted(p for p in directory.glob("*") if p.name.isdigit()):
            try:
                ocp.checkpointables_metadata(path)
            except Exception:
                raise damaged(directory, int(path.name), error) from error
        raise


def _metadata(reader: ocp.training.Checkpointer, directory: Path, step: int) -> dict[str, Any]:
    """The metadata of a step, whole and of this format."""
    try:
        metadata = reader.checkpointables_metadata(step).custom_metadata or {}
    except Exception as error:
        raise damaged(directory, step, error) from error
    if (layout := metadata.get("format", FORMAT)) not in READABLE:
        raise InputError(
            f"{directory}/{step}: a checkpoint of format {layout}, and this jaxsae reads formats "
            f"{' and '.join(map(str, READABLE))}. Read it with the version that wrote it."
        )
    if _sealed(metadata) != metadata:
        raise damaged(directory, step, ValueError("its metadata do not have the checksum they were written with"))
    return metadata


def _load(reader, directory: Path, step: int, abstract: dict[str, Any], metadata: dict[str, Any]) -> dict[str, Any]:
    layout, sums = metadata["format"], metadata["sums"]
    try:
        loaded = reader.load_checkpointables(step, as_written(abstract, layout))
        found = sums_of_bits(loaded)
    except Exception as error:
        raise damaged(directory, step, error) from error
    if changed := [path for path in found if found[path] != sums.get(path)]:
        raise damaged(directory, step, ValueError(f"other bits than were saved in {', '.join(changed)}"))
    return as_used(loaded, layout)


def damaged(directory: Path, step: int, error: Exception) -> InputError:
    """What is said of a checkpoint that cannot be read."""
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
    advice = "Remove that directory and run again: the checkpoint before it, where there is one, takes over."
    return InputError(f"{directory}/{step}: this checkpoint is damaged or does not fit ({first}). {advice}")
