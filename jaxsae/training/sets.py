"""A set: a directory of runs that one command trained, each of a site (`every.py`), or imported."""

import dataclasses
from pathlib import Path

from jaxsae.config import read_flag_file
from jaxsae.errors import InputError
from jaxsae.lm.sites import reached
from jaxsae.progress import hushed
from jaxsae.store import open_store
from jaxsae.training.config import TrainConfig
from jaxsae.training.every import runs_of
from jaxsae.training.run import CHECKPOINTS, FLAGS, SET_FLAGS, SET_IMPORTED, find_dictionary, has_checkpoints


def is_set(path: str | Path) -> bool:
    """Whether a directory holds runs of several sites."""
    return any((Path(path) / name).is_file() for name in (SET_FLAGS, SET_IMPORTED))


def runs_in(path: Path) -> list[Path]:
    """The runs of a set that are there, in the order in which the model comes to their sites."""
    found = {part.parent for name in (FLAGS, CHECKPOINTS) for part in path.glob(f"*/{name}")}
    return sorted(found, key=lambda run: reached(run.name))


def complete_runs(path: Path, store: str = "") -> list[Path]:
    """The runs of a set, in the order in which the model comes to their sites.

    Args:
      store: one to go by instead of the set's own, which may no longer be there.

    Raises:
      InputError: runs that are missing or not trained to the end; the store cannot be read.
    """
    runs = _runs_of(path, store)
    if left := _left(runs):
        raise InputError(
            f"--run={path}: not trained to the end: {left}. Go on with `jaxsae train --flagfile={path / SET_FLAGS}`, or give "
            "one of its runs."
        )
    return runs


def left_in(path: Path) -> str:
    """The runs of a set that are missing or not trained to the end, in words; "" where there are none."""
    try:
        return _left(_runs_of(path, ""))
    except InputError:  # the store, which knows the sites, is elsewhere
        return _left(runs_in(path))


def _runs_of(path: Path, store: str) -> list[Path]:
    if not (path / SET_FLAGS).is_file():  # all that was imported is there
        return runs_in(path)
    config = dataclasses.replace(read_flag_file(path / SET_FLAGS, TrainConfig), workdir=str(path))
    with hushed():
        named = [Path(one.workdir) for one in runs_of(config, open_store(store or config.store_url))]
    return sorted({*named, *runs_in(path)}, key=lambda run: reached(run.name))


def _left(runs: list[Path]) -> str:
    return ", ".join(f"{run.name} ({state})" for run in runs if (state := _what_is_left(run)))


def _what_is_left(run: Path) -> str:
    if not has_checkpoints(run):
        return "no checkpoint"
    if not (run / FLAGS).is_file():  # imported
        return ""
    step, steps = find_dictionary(run)[1], read_flag_file(run / FLAGS, TrainConfig).steps
    return "" if step >= steps else f"step {step} of {steps}"
