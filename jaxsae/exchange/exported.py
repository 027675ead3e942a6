"""The dictionaries of an export: those of a run, or of a set of runs."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from jaxsae.dictionary import Dictionary
from jaxsae.errors import InputError
from jaxsae.exchange.holds import name_in

ONE_SET = "circuit_tracer"  # the format whose directory holds several dictionaries as one


@dataclasses.dataclass(frozen=True)
class Exported:
    """A dictionary of an export.

    Attributes:
      run: its run, or a checkpoint of it. folder: where it stands in the export, "" where it is the whole or a part of it.
      k: latents of a row, where the export has another number than the run.
    """

    run: Path
    dictionary: Dictionary
    folder: str = ""
    k: int | None = None

    @property
    def home(self) -> Path:
        """The directory of the run."""
        from jaxsae.training.run import find_checkpoints

        return find_checkpoints(self.run).parent

    @property
    def is_newest(self) -> bool:
        """Whether it is the run's newest checkpoint, which is what `evaluate` judges where none is named."""
        from jaxsae.training.run import find_dictionary

        return find_dictionary(self.home)[1] == self.dictionary.metadata.get("step")


def dictionaries(run: str, also: Sequence[str], file_format: str, k: int | None) -> list[Exported]:
    """The dictionaries of a run, or of a set, and of `also`; their arrays are read when they are written.

    Raises:
      InputError: no such run; a set that is not trained to the end; a dictionary that the format cannot hold.
    """
    from jaxsae.training import load_by_range

    whole, exported = members(run), []
    for path in [*(whole or [Path(run)]), *map(Path, also)]:
        dictionary = load_by_range(path)
        if k is not None:
            dictionary = dictionary.with_k(k)
        name_in(file_format, dictionary)  # refuses what it cannot hold before anything is written
        folder = path.name if whole and file_format != ONE_SET else ""
        exported.append(Exported(path, dictionary, folder, k))
    return exported


def members(run: str) -> list[Path]:
    """The runs of a set; none where `run` is no set.

    Raises:
      InputError: some are not trained to the end.
    """
    from jaxsae.training.sets import is_set, left_in, runs_in

    if not is_set(run):
        return []
    if left := left_in(Path(run)):
        raise InputError(f"--run={run}: not trained to the end: {left}. Train on, or export one of its runs.")
    return runs_in(Path(run))
