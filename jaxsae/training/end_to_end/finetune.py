"""`train --finetune=RUN`: a finished dictionary, trained on by its effect on the model for a small share of its tokens.

Most of what end-to-end training gains comes in a short stretch at its end (Karvonen, 2503.17272), at a fraction of the rate:
the features stay what they are.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxsae.config import check, from_dict, read_flag_file, to_dict
from jaxsae.dictionary import MethodConfig
from jaxsae.errors import InputError
from jaxsae.paths import absolute
from jaxsae.training.config import TrainConfig
from jaxsae.training.run import FLAGS, find_checkpoints, find_dictionary, has_begun

SHARE, FEWEST_STEPS = 0.05, 300  # of the tokens that it was trained on; steps at least
KL = 4.0  # weight of the divergence
SLOWER = 30  # than the rate that it was trained at
RATE = 3e-4  # where that is not known
FIXED = ("architecture", "width", "site", "reads", "writes")  # which make another dictionary


def finetune_flags(given: Mapping[str, Any]) -> dict[str, Any]:
    """The flags of `train` that follow from --finetune, {name: value}: what the dictionary is, and how it goes on.

    Of a run that has begun they are its own: the one that it began with may be gone. What that one was trained on through
    the model it is trained on further.

    Raises:
      InputError: no dictionary is there, it is the run itself, or flags that were given say that it is another one.
    """
    run, own = given["finetune"], given.get("workdir") or ""
    same = bool(own) and absolute(own) == absolute(run)
    check(not same, "workdir", own, "is the run that --finetune names. Give another directory")
    if own and (Path(own) / FLAGS).is_file() and has_begun(Path(own)):
        return to_dict(read_flag_file(Path(own) / FLAGS, TrainConfig))
    try:
        metadata = find_dictionary(run)[2]
    except InputError as error:
        raise InputError(f"--finetune={run}: {error}") from error
    method, known = from_dict(MethodConfig, metadata["method"]), metadata["dictionary"]
    flags = to_dict(method) | {"initialize_from": run}
    if method.transcode:
        flags |= {"reads": known.get("reads", []), "writes": known.get("writes", [])}
    elif known.get("site"):
        flags["site"] = known["site"]
    for name in FIXED:
        _check_same(name, given, flags, run)
    flags |= {name: known[name] for name in ("store", "normalize") if known.get(name)}
    before = _flags_of(run)
    flags |= to_dict(before.end_to_end) if before and before.end_to_end.runs_model else {"kl": KL}
    batch = given.get("batch_size") or (before.batch_size if before else TrainConfig.batch_size)
    tokens = int(SHARE * (known.get("tokens") or 0))
    rate = known.get("learning_rate")
    flags |= {"batch_size": batch, "tokens": max(tokens, FEWEST_STEPS * batch)}
    return flags | {"learning_rate": rate / SLOWER if rate else RATE}


def _check_same(name: str, given: Mapping[str, Any], flags: Mapping[str, Any], run: str) -> None:
    """Raises `InputError` where a flag makes another dictionary of it."""
    shown = lambda value: ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value or "")
    said, own = shown(given.get(name)), shown(flags.get(name))
    check(not said or not own or said == own, name, said, f"--finetune={run} has {own}. Leave the flag out")


def _flags_of(run: str) -> TrainConfig | None:
    """The flags that a run was trained with; None of an imported dictionary."""
    path = find_checkpoints(run).parent / FLAGS
    return read_flag_file(path, TrainConfig) if path.is_file() else None
