"""More tokens for a run that is there: --tokens may change when a run is gone on with.

The fall of the rate is taken anew. A run goes on from its newest checkpoint whose steps have the same rates whichever of
the two totals holds: none of the old fall, none of the new one. What was computed from the total stays as it was begun
with (--first_tokens), so that the flag file, from nothing, makes the same bits.

Each checkpoint says the total that it was made for. A kill at any time thus leaves either the run as it was, or one that
is gone on with: first its flag file changes, then the checkpoints that are no longer of it go.
"""

import dataclasses
import os
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from jaxsae.config import read_flag_file, write_flag_file
from jaxsae.errors import InputError
from jaxsae.hosts import processes
from jaxsae.training.checkpoint import Checkpoints
from jaxsae.training.config import TrainConfig
from jaxsae.training.optimizer import steps_before_fall
from jaxsae.training.run import CHECKPOINTS, FLAGS, has_begun, has_checkpoints
from jaxsae.training.state import TrainState

EVALUATIONS = "eval"  # of a run's directory: what `jaxsae evaluate` found


@dataclasses.dataclass(frozen=True)
class GoingOn:
    """Where a run goes on.

    Attributes:
      step: of the checkpoint; 0: from nothing. dropped: later checkpoints, made for fewer tokens at falling rates.
      fell: the step at which those began to fall. told: what a user is told where the total has changed.
    """

    step: int
    dropped: tuple[int, ...]
    fell: int
    told: str


def as_begun(config: TrainConfig) -> TrainConfig:
    """The configuration with the --first_tokens of the run that is there, if one is.

    Raises:
      InputError: the flags name others than it was begun with.
    """
    first = processes.from_first("what the run was begun with", lambda: _first_tokens(config))
    return dataclasses.replace(config, first_tokens=first)


def _first_tokens(config: TrainConfig) -> int | None:
    workdir = Path(config.workdir)
    if not os.path.isfile(workdir / FLAGS) or not has_begun(workdir):
        return config.first_tokens
    before = read_flag_file(workdir / FLAGS, TrainConfig)
    began = before.first_tokens or before.tokens
    if config.first_tokens is not None and config.first_tokens != began:
        raise InputError(
            f"--first_tokens={config.first_tokens}: the run in {workdir} was begun with {began}, by which its default rate "
            "and its warm-ups go. Leave the flag out: that is known. For a run of its own, give another --workdir."
        )
    if before.first_tokens is not None or config.first_tokens is not None:
        return began
    # Of a run without a checkpoint nothing is kept: it begins anew.
    return began if before.tokens != config.tokens and has_checkpoints(workdir) else None


def open_checkpoints(config: TrainConfig) -> Checkpoints:
    """The checkpoints of a run, with what is to be kept of them."""
    return Checkpoints(Path(config.workdir) / CHECKPOINTS, config.keep_checkpoints, step_before_fall(config))


def step_before_fall(config: TrainConfig) -> int | None:
    """The step of the checkpoint that more tokens would go on from; None where none is kept for that.

    With --keep_bytes the rows after it would have to stay as well, and the store has no more of them than are read.
    """
    return None if config.keep_bytes is not None else steps_before_fall(config.optimization, config.steps)


def where_to_go_on(config: TrainConfig, checkpoints: Checkpoints) -> GoingOn:
    """Where the run in `config.workdir` goes on; changes nothing.

    Raises:
      InputError: it has taken too many steps for so few tokens, has no checkpoint from before the rate fell, or is a sweep's.
    """
    before = read_flag_file(Path(config.workdir) / FLAGS, TrainConfig)
    changed = before.steps != config.steps
    if changed:
        _check_no_member(config, before)
    fall = steps_before_fall(config.optimization, config.steps)
    step, dropped, fell = 0, [], 0
    for saved in reversed(checkpoints.steps):
        total = checkpoints.metadata(saved)["dictionary"].get("tokens", config.tokens) // config.batch_size
        full = steps_before_fall(config.optimization, total)
        if total == config.steps or saved <= min(full, fall):
            step = saved
            break
        if total > config.steps:
            raise _too_few(config, saved, total)
        fell = fell or full
        dropped.append(saved)
    if dropped and not step:
        raise InputError(f"--tokens={config.tokens}: {_none_before(config, checkpoints.steps, fell)}")
    return GoingOn(step, tuple(dropped), fell, _told(config, before, step, dropped, fell) if changed else "")


def _check_no_member(config: TrainConfig, before: TrainConfig) -> None:
    """Refuses to change a member of a sweep, whose figures are those of its point of the grid."""
    place = Path(config.workdir).absolute().parent
    if place.name == "members" and (place.parent / "grid.json").is_file():
        raise InputError(
            f"--tokens={config.tokens}: {config.workdir} is a member of the sweep {place.parent}, with --tokens="
            f"{before.tokens}. Copy its directory, and give the copy as --workdir."
        )


def _told(config: TrainConfig, before: TrainConfig, step: int, dropped: list[int], fell: int) -> str:
    """What happens to a run whose total is another one now."""
    if not step:
        return ""
    why = ""
    if dropped:
        late = f"; there is none of step {fell}, where it began to" if step < fell else ""
        why = (
            f", the newest checkpoint from before its rate fell{late}. What comes after, up to step {dropped[0]}, is made "
            "anew at other rates"
        )
    return (
        f"{config.workdir}: {config.tokens} tokens instead of {before.tokens}. It goes on from step {step}{why}. Its default "
        f"rate and warm-ups stay those of --first_tokens={config.first_tokens or before.tokens}."
    )


def _none_before(config: TrainConfig, steps: list[int], fell: int) -> str:
    """That there is nothing to go on from."""
    return (
        f"the run in {config.workdir} has no checkpoint from before its rate began to fall, at step {fell} (there are: "
        f"{', '.join(map(str, steps))}), and cannot go on at other rates. To train its weights further, give another "
        f"--workdir and --initialize_from={config.workdir}."
    )


def _too_few(config: TrainConfig, saved: int, total: int) -> InputError:
    """For a run that has taken `saved` steps of `total`."""
    optimization, size = config.optimization, config.batch_size
    least = total
    if saved <= steps_before_fall(optimization, total):
        least = next(n for n in range(saved, total + 1) if steps_before_fall(optimization, n) >= saved)
    why = ""
    if saved <= config.steps:
        fall = steps_before_fall(optimization, min(config.steps, total))
        why = f", and with so few its rate would have fallen from step {fall} on"
    return InputError(
        f"--tokens={config.tokens}: the run in {config.workdir} has trained on {saved * size} already (step {saved} of "
        f"{total}){why}. Give --tokens={least * size} or more, or another --workdir."
    )


def restore(config: TrainConfig, checkpoints: Checkpoints, going_on: GoingOn, abstract: TrainState) -> TrainState:
    """The state to go on from.

    Raises:
      InputError: as `Checkpoints.restore`; where the total has changed, it says what the run would go on from else.
    """
    try:
        return checkpoints.restore(going_on.step, abstract)
    except InputError as error:
        if not going_on.dropped:
            raise
        earlier = [step for step in checkpoints.steps if step < going_on.step]
        later = [step for step in checkpoints.steps if step > going_on.step]
        none = _none_before(config, later, going_on.fell)
        without = f"That is step {earlier[-1]}." if earlier else f"There is none here: without it {none}"
        raise InputError(f"{error} {without}") from error


def begin(config: TrainConfig, checkpoints: Checkpoints, going_on: GoingOn) -> None:
    """Makes what lies in the run's directory that of this configuration, now that it is sure to go on; in all processes."""

    def change() -> None:
        workdir = Path(config.workdir)
        flags = workdir / FLAGS
        before = read_flag_file(flags, TrainConfig)
        if before.steps != config.steps:
            when, step = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", f"step {going_on.step} of {before.steps}"
            note = f"{when}: --tokens={before.tokens} became --tokens={config.tokens}, from {step} on"
            write_flag_file(flags, config, "train", note)
        if going_on.dropped:
            _keep_figures(workdir, going_on.dropped[0])
        checkpoints.remove(going_on.dropped)

    processes.from_first("change the run", change)
    if going_on.dropped:
        checkpoints.reload()


def _keep_figures(workdir: Path, step: int) -> None:
    """Moves what `evaluate` found of a checkpoint that goes to where nobody takes it for what comes."""
    if (workdir / EVALUATIONS).is_dir():
        names = (f"{EVALUATIONS}-of-step-{step}{f'-{n}' if n else ''}" for n in count())
        (workdir / EVALUATIONS).rename(next(workdir / name for name in names if not (workdir / name).exists()))
