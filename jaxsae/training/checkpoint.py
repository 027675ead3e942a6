"""Checkpoints through Orbax: what a run needs to go on, and what a dictionary needs to be used.

A checkpoint has two parts, so that a reader of the dictionary never touches the moments: `dictionary`
(parameters, their average, normalisation, counts) and `training` (moments, dead-latent counters). Its
configuration stands in the custom metadata.
"""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from jaxsae.errors import InputError, reraise_if_disk_full
from jaxsae.training.state import TrainState

FORMAT = 1
_IN_DICTIONARY = ("step", "params", "skipped", "average", "mean", "scale")
_IN_TRAINING = ("moments", "since_fired")


def _split(state: TrainState) -> dict[str, dict[str, Any]]:
    pick = lambda names: {n: getattr(state, n) for n in names if getattr(state, n) is not None}
    return {"dictionary": pick(_IN_DICTIONARY), "training": pick(_IN_TRAINING)}


def _quiet() -> None:
    # Orbax tells every save at INFO, and lists threads; what matters to a user is said by the run.
    logging.getLogger("absl").setLevel(logging.ERROR)


class Checkpoints:
    """The checkpoints of a run; a context that waits for what is still being written."""

    def __init__(self, directory: Path, keep: int = 2):
        _quiet()
        self.directory = Path(directory).absolute()
        self._saver = ocp.training.Checkpointer(
            self.directory,
            preservation_policy=ocp.training.preservation_policies.LatestN(keep),
            cleanup_tmp_directories=True,
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind, error, trace) -> None:
        try:
            self._saver.close()
        except Exception as closing:
            if error is None:  # otherwise the first error is the one to show
                reraise_if_disk_full(closing, str(self.directory))
                raise

    @property
    def latest(self) -> int | None:
        """The newest complete checkpoint's step."""
        return self._saver.latest.step if self._saver.latest else None

    def save(self, step: int, state: TrainState, metadata: dict[str, Any]) -> None:
        """Starts to write a checkpoint in the background; a step that is already there is left as it is.

        Raises:
          DiskFullError: this save, or the one before it, found no room.
        """
        if self.latest == step:
            return
        try:
            self._saver.wait()
            self._saver.save_checkpointables_async(
                step, _split(state), force=True, custom_metadata={"format": FORMAT, **metadata}
            )
        except Exception as error:
            reraise_if_disk_full(error, str(self.directory))
            raise

    def wait(self) -> None:
        """Returns when the last save is on disk."""
        try:
            self._saver.wait()
        except Exception as error:
            reraise_if_disk_full(error, str(self.directory))
            raise

    def restore(self, step: int, abstract: TrainState) -> TrainState:
        """The state of a step, on the shardings of `abstract`."""
        parts = _load(self._saver, self.directory, step, _split(abstract))
        return dataclasses.replace(abstract, **parts["dictionary"], **parts["training"])


def read_metadata(directory: Path) -> tuple[int, dict[str, Any]]:
    """The newest step under `directory` and its metadata.

    Raises:
      InputError: there is no checkpoint, or one that another tool or version wrote.
    """
    _quiet()
    if not directory.is_dir():
        raise InputError(f"{directory}: no checkpoints here. Give a directory that `jaxsae train` or `import` wrote.")
    with ocp.training.Checkpointer(directory.absolute()) as reader:
        if reader.latest is None:
            raise InputError(f"{directory}: holds no complete checkpoint. Run the same `jaxsae train` again.")
        step = reader.latest.step
        try:
            metadata = reader.checkpointables_metadata(step).custom_metadata or {}
        except Exception as error:
            raise _damaged(directory, step, error) from error
    if metadata.get("format") != FORMAT:
        raise InputError(f"{directory}/{step}: not a jaxsae checkpoint of format {FORMAT} (found {metadata.get('format')})")
    return step, metadata


def read_dictionary(directory: Path, step: int, abstract: dict[str, Any]) -> dict[str, Any]:
    """The `dictionary` part of a checkpoint, on the shardings of `abstract`."""
    with ocp.training.Checkpointer(directory.absolute()) as reader:
        return _load(reader, directory, step, {"dictionary": abstract})["dictionary"]


def _load(reader, directory: Path, step: int, abstract: dict[str, Any]) -> dict[str, Any]:
    try:
        loaded = reader.load_checkpointables(step, abstract)
        jax.block_until_ready(loaded)
        return loaded
    except Exception as error:
        raise _damaged(directory, step, error) from error


def _damaged(directory: Path, step: int, error: Exception) -> InputError:
    first = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
    return InputError(
        f"{directory}/{step}: this checkpoint is damaged or does not fit ({first}). "
        f"Remove that directory and run again: the checkpoint before it, where there is one, takes over."
    )
