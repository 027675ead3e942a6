"""Records of all dictionaries of a set, on the same rows, so that each says which latents of the others fire with its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import scipy.sparse as sp

from jaxsae.dashboard.collect import encoded_rows, open_context, open_source, record_of, say_few, shown_of
from jaxsae.dashboard.record import Record
from jaxsae.dashboard.settings import Settings
from jaxsae.errors import InputError
from jaxsae.training.run import has_checkpoints
from jaxsae.training.sets import runs_in


def collect_set(path: str, store: str = "", settings: Settings | None = None) -> Iterator[tuple[str, Record]]:
    """(run's name, its record) of the runs of a set that have begun, in the order in which the model comes to their sites.

    Dictionaries are loaded one by one, twice; the matrices of what is active stand in memory together.

    Raises:
      InputError: as `collect_run`; no run has begun; runs that do not read the same rows.
    """
    settings = settings or Settings()
    runs = [run for run in runs_in(Path(path)) if has_checkpoints(run)]
    if not runs:
        raise InputError(f"--run={path}: no run has begun. Go on with `jaxsae train --flagfile={path}/each.flags`.")
    matrices: dict[str, sp.csc_matrix] = {}
    for run in runs:
        context = open_context(str(run), store, settings)
        shown_of(context, settings)  # refuses latents that are not there before any work
        source = open_source(context, settings)
        say_few(source, settings) if not matrices else None
        matrices[run.name] = encoded_rows(context, source)
    if len({matrix.shape[0] for matrix in matrices.values()}) > 1:
        raise InputError(f"--run={path}: its runs were trained on different rows. Take one of them, {runs[0]}.")
    shared: dict[str, Any] = {}
    for run in runs:
        context = open_context(str(run), store, settings)
        source, shown = open_source(context, settings), shown_of(context, settings)
        yield run.name, record_of(context, settings, source, matrices, run.name, shown, shared)
