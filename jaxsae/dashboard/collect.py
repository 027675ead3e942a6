"""Records of a run, or of all runs of a set: what the latents of their dictionaries fire on."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import scipy.sparse as sp

from jaxsae.dashboard.board import best_targets
from jaxsae.dashboard.build import record_of
from jaxsae.dashboard.cost import say_cost
from jaxsae.dashboard.identity import identity
from jaxsae.dashboard.open import encoded_rows, open_context, open_source, say_few, shown_of
from jaxsae.dashboard.record import Record
from jaxsae.dashboard.settings import Settings
from jaxsae.errors import InputError
from jaxsae.evaluate.context import Context
from jaxsae.progress import say
from jaxsae.training.run import has_checkpoints
from jaxsae.training.sets import is_set, runs_in

Known = Callable[[str], Record | None]  # name of a dictionary -> a record of it that is there already


def collect_run(
    run: str, store: str = "", settings: Settings | None = None, known: Known | None = None, **changes: Any
) -> Record:
    """What a run's latents fire on, in one pass over held-out rows.

    Args:
      run: a run, or an imported dictionary. store: activations to search; default: the end of the run's own store. Of an
        Othello model games are played instead.
      known: gives an earlier record, by the name "", which is taken where it would come out the same.
      changes: fields of `Settings`, such as `rows=100_000, which="0:100"`.

    Raises:
      InputError: no such run or store; a set of runs; no such latents; NaN in the activations.
    """
    if is_set(run):
        raise InputError(f"--run={run}: is a set of runs. Give one of them, or take collect_set.")
    settings = dataclasses.replace(settings or Settings(), **changes)
    context = open_context(run, store, settings)
    made_of = identity(context, store, settings)
    if there := _again(known, "", made_of, Path(run)):
        say(f"{run}: what its latents fire on is known already, by the same search of the same dictionary")
        return there
    return _with(collect(context, settings), made_of)


def collect(context: Context, settings: Settings) -> Record:
    """A record of one dictionary; raises as `collect_run`."""
    shown, source = shown_of(context, settings), open_source(context, settings)
    say_few(source, settings)
    say_cost(context, source.places.rows, settings, None if shown is None else len(shown))
    return record_of(context, settings, source, {"": encoded_rows(context, source)}, shown=shown)


def collect_set(
    path: str, store: str = "", settings: Settings | None = None, known: Known | None = None
) -> Iterator[tuple[str, Record]]:
    """(run's name, its record) of the runs of a set that have begun, in the order in which the model comes to their sites,
    on the same rows, so that each says which latents of the others fire with its own.

    Dictionaries are loaded one by one, thrice, or once where all is known; matrices of what is active stand in memory
    together.

    Raises:
      InputError: as `collect_run`; no run has begun; runs that do not read the same rows.
    """
    settings = settings or Settings()
    runs = [run for run in runs_in(Path(path)) if has_checkpoints(run)]
    if not runs:
        raise InputError(f"--run={path}: no run has begun. Go on with `jaxsae train --flagfile={path}/each.flags`.")
    open_one = lambda run: open_context(str(run), store, settings)
    alone = {run.name: identity(open_one(run), store, settings) for run in runs}
    marks = {name: one["dictionary"] for name, one in alone.items()}
    made_of = {name: one | {"set": marks} for name, one in alone.items()}
    again = lambda run: _again(known, run.name, made_of[run.name], run)
    if known and all(again(run) for run in runs):  # one by one: all need not stand in memory
        say(f"{path}: what its latents fire on is known already, by the same search of the same dictionaries")
        yield from ((run.name, again(run)) for run in runs)
        return
    matrices: dict[str, sp.csc_matrix] = {}
    for run in runs:
        context = open_one(run)
        shown, source = shown_of(context, settings), open_source(context, settings)
        if not matrices:
            say_few(source, settings)
            say_cost(context, source.places.rows, settings, None if shown is None else len(shown), len(runs))
        matrices[run.name] = encoded_rows(context, source)
    if len({matrix.shape[0] for matrix in matrices.values()}) > 1:
        raise InputError(f"--run={path}: its runs were trained on different rows. Take one of them, {runs[0]}.")
    shared: dict[str, Any] = {}
    for run in runs:
        context = open_one(run)
        source, shown = open_source(context, settings), shown_of(context, settings)
        record = record_of(context, settings, source, matrices, run.name, shown, shared)
        yield run.name, _with(record, made_of[run.name])


def _with(record: Record, made_of: dict[str, Any]) -> Record:
    return dataclasses.replace(record, about=record.about | {"made_of": made_of})


def _again(known: Known | None, name: str, made_of: dict[str, Any], run: Path) -> Record | None:
    """An earlier record that would come out the same, with what was evaluated since; None where there is none."""
    record = known(name) if known else None
    if record is None or record.about.get("made_of") != made_of:
        return None
    if record.about["tokenizer"] and "no_words" in record.about:  # which may be here now
        return None
    auroc, target = best_targets(run, record.width)
    return dataclasses.replace(record, auroc=auroc, target=target)
