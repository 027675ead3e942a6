"""What is asked of which rows: data sets with their tasks, and contexts that fit apart from those that measure."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from jaxsae.errors import InputError
from jaxsae.evaluate import games as play
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.probing import board, rows
from jaxsae.evaluate.probing.labels import Labelled
from jaxsae.evaluate.probing.probes import FOLDS
from jaxsae.evaluate.subject import Subject

_SPLIT_KEY, _ROWS_KEY, _FOLD_KEY = 0x5B117, 0x5B118, 0x5B119


@dataclasses.dataclass(frozen=True)
class DataSet:
    """Contexts and their tasks.

    Attributes:
      name: of the file, or what the games are. unit: of a context, a word.
      ids: token ids of each context.
      chosen: for each context which of its kept positions are rows, bool; None: contexts are rows.
      labels: {task: bool [rows]}, in the order of contexts, of the rows chosen.
      tests: bool [contexts], those that measure.
    """

    name: str
    unit: str
    ids: Sequence[np.ndarray]
    chosen: Sequence[np.ndarray] | None
    labels: Mapping[str, np.ndarray]
    tests: np.ndarray

    def contexts_of_rows(self) -> np.ndarray:
        """int [rows]: the context of each row."""
        each = np.ones(len(self.ids), int) if self.chosen is None else np.array([part.sum() for part in self.chosen])
        return np.repeat(np.arange(len(self.ids)), each)

    def repeated(self) -> int:
        """How many contexts that measure are, token for token, also among those that fit."""
        fitted = {own.tobytes() for own, test in zip(self.ids, self.tests, strict=True) if not test}
        return sum(own.tobytes() in fitted for own, test in zip(self.ids, self.tests, strict=True) if test)

    def folds(self, seed: int) -> np.ndarray:
        """int [contexts]: the fold that each belongs to, where it fits."""
        return np.random.default_rng([seed, _FOLD_KEY]).permutation(len(self.ids)) % FOLDS


def of_games(context: Context) -> list[DataSet]:
    """What --probing_tasks asks of games that nothing was trained on: labels of positions, and of whole games."""
    config = context.config
    some = config.probing
    games = play.held_out_games(some.probing_contexts, config.seed, play.PROBED)
    ids, positions = [moves.astype(np.int32) for moves in games.moves], context.positions
    tests = split(np.zeros(len(ids), int), some.probing_test, config.seed)
    out = []
    for kinds, name in ((board.BY_POSITION, "positions"), (board.BY_GAME, "games")):
        asked = {task: board.labels_of(task, games, positions) for task in some.probing_tasks if _kind(task) in kinds}
        if not asked:
            continue
        chosen = None
        if name == "positions":
            chosen = drawn([positions.stop - positions.start] * len(ids), some.probing_rows, config.seed)
            flat = np.concatenate(chosen)
            asked = {task: label.ravel()[flat] for task, label in asked.items()}
        out.append(DataSet(name, "game", ids, chosen, asked, tests))
    return out


def of_file(context: Context, subject: Subject, labelled: Labelled) -> DataSet:
    """The tasks of labelled contexts: each class from the rest, of two the later one.

    Raises:
      InputError: a context without a row; no row of a class.
    """
    some, seed = context.config.probing, context.config.seed
    ids = rows.token_ids(subject, labelled)
    places = rows.kept_places(context, subject, ids)
    short = next((i for i, own in enumerate(places) if not len(own)), None)
    if short is not None:
        raise InputError(
            f"--probing_labels, {labelled.name}: line {labelled.lines[short]}: the game ends before move "
            f"{context.positions.start + 1}, the first that is looked at. Leave it out, or give --first_position."
        )
    unit = "game" if labelled.games else "text"
    if not labelled.by_token:
        classes = np.array(labelled.labels, object)
        tests = split(np.unique(classes.astype(str), return_inverse=True)[1], some.probing_test, seed)
        return DataSet(labelled.name, unit, ids, None, one_from_rest(classes), tests)
    own = [all_[at] for all_, at in zip(rows.token_classes(subject, labelled, ids), places, strict=True)]
    flat = np.concatenate(own)
    chosen = drawn([len(part) for part in own], some.probing_rows, seed, np.array([name is not None for name in flat]))
    tests = split(np.zeros(len(ids), int), some.probing_test, seed)
    return DataSet(labelled.name, unit, ids, chosen, one_from_rest(flat[np.concatenate(chosen)]), tests)


def one_from_rest(classes: np.ndarray) -> dict[str, np.ndarray]:
    """{class: bool [N]} of classes, objects [N], "" for none; of two without a none the later one alone."""
    names = sorted({*classes} - {""})
    if len(names) == 2 and "" not in classes:
        names = names[1:]
    return {name: classes == name for name in names}


def split(strata: np.ndarray, share: float, seed: int) -> np.ndarray:
    """bool [N]: which contexts measure, `share` of each of the `strata`, int [N], at least one and not all."""
    rng, tests = np.random.default_rng([seed, _SPLIT_KEY]), np.zeros(len(strata), bool)
    for stratum in np.unique(strata):
        own = rng.permutation(np.flatnonzero(strata == stratum))
        tests[own[: min(max(1, round(share * len(own))), len(own) - 1)]] = True
    return tests


def drawn(counts: Sequence[int], most: int, seed: int, there: np.ndarray | None = None) -> list[np.ndarray]:
    """For each context, bool [its rows]: `most` of all rows, or of those that are `there`, drawn."""
    ends = np.cumsum(counts)
    possible = np.arange(ends[-1]) if there is None else np.flatnonzero(there)
    kept = np.zeros(ends[-1], bool)
    kept[np.random.default_rng([seed, _ROWS_KEY]).permutation(possible)[:most]] = True
    return np.split(kept, ends[:-1])


def check_both(name: str, task: str, y: np.ndarray, tests: np.ndarray) -> None:
    """Raises `InputError` where one of the two sides of a task is missing among the rows that fit, or that measure."""
    for part, what in ((y[~tests], "fit"), (y[tests], "measure")):
        if part.all() or not part.any():
            held = "all" if len(part) and part.all() else "none"
            raise InputError(
                f"--suite=probing: {name}, {task}: {held} of the {len(part):,} rows that {what} are of that class, so there "
                "is nothing to tell apart. Give more contexts, or leave it out."
            )


def _kind(task: str) -> str:
    return board.parse_task(task)[0]
