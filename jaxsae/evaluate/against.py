"""The dictionaries of `--against`, beside the one that is judged: RUN, or RUN@STEP for one of its checkpoints."""

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from jaxsae.config import from_dict, read_flag_file, to_dict
from jaxsae.dictionary import Dictionary, MethodConfig, Widths
from jaxsae.errors import InputError
from jaxsae.evaluate.context import Context, is_meta_sae, load_dictionary
from jaxsae.store import same_place
from jaxsae.training import TrainConfig
from jaxsae.training.config import FREE_ON_RESUME
from jaxsae.training.run import CHECKPOINTS, FLAGS, find_checkpoints, find_dictionary, widths_of

SEEDS = {"seed", "data_seed"}
_SHOWN = ("architecture", "width", "k", "seed", "data_seed", "tokens", "learning_rate")  # first, where flags differ


@dataclasses.dataclass(frozen=True)
class Other:
    """A dictionary beside the one that is judged, known by what its checkpoint says until its weights are asked for.

    Attributes:
      name: as it was given. path: what `load` takes. step: of the checkpoint. metadata: of the dictionary.
      method, widths: of it.
    """

    name: str
    path: str
    step: int
    metadata: Mapping[str, Any]
    method: MethodConfig
    widths: Widths

    @classmethod
    def of(cls, given: str) -> "Other":
        """The one that is named.

        Raises:
          InputError: no such run or checkpoint, naming the flag.
        """
        path = place_of(given)
        if not Path(path).is_dir():
            at = Path(path).parent
            there = sorted((int(p.name) for p in at.glob("*") if p.name.isdigit()), reverse=True)
            steps = f" Its checkpoints are of the steps {', '.join(map(str, there))}." if there else ""
            raise InputError(f"--against={given}: no such directory.{steps} Give runs, or RUN@STEP, comma-separated.")
        try:
            _, step, found = find_dictionary(path)
        except InputError as error:
            raise InputError(f"--against={given}: {error}") from None
        return cls(given, path, step, found["dictionary"], from_dict(MethodConfig, found["method"]), widths_of(found))

    @property
    def reads(self) -> tuple[str, ...]:
        """The sites that it reads; none where it does not say."""
        return tuple(self.metadata.get("reads") or filter(None, [self.metadata.get("site")]))

    @property
    def writes(self) -> tuple[str, ...]:
        """The sites that it writes."""
        return tuple(self.metadata.get("writes") or self.reads)

    @cached_property
    def dictionary(self) -> Dictionary:
        """With its weights."""
        return load_dictionary(self.path, flag="against")


def place_of(given: str) -> str:
    """The directory that RUN@STEP names; RUN as it is."""
    run, at, step = given.rpartition("@")
    return str(Path(run) / CHECKPOINTS / step) if at and step.isdigit() and not Path(given).is_dir() else given


def others_of(context: Context, suite: str) -> list[Other]:
    """Those of `--against`, in their order; reads no weights.

    Raises:
      InputError: none is named, or one twice, or the run itself; one that is not there; one of another model, of no site that
        this one writes, or of another width there.
    """
    names = context.config.against
    if not names:
        raise InputError(f"--against is required by --suite={suite}: name one or more other runs, comma-separated")
    seen = {_identity(context.config.run): "--run"}
    others = []
    for name in names:
        other = Other.of(name)
        if first := seen.get(place := (find_checkpoints(other.path).resolve(), other.step)):
            raise InputError(f"--against={name}: is the same as {first}. Name each dictionary once.")
        seen[place] = f"--against={name}"
        _check(context, other)
        others.append(other)
    return others


def common_sites(context: Context, other: Other) -> list[str]:
    """The sites that both write, in the order of the one that is judged."""
    return [site for site in context.writes if site in other.writes]


def _identity(run: str) -> tuple[Path, int] | None:
    try:
        return find_checkpoints(run).resolve(), find_dictionary(run)[1]
    except InputError:  # a dictionary that was given, and lies nowhere
        return None


def _check(context: Context, other: Other) -> None:
    own, run = context.dictionary, context.config.run
    if is_meta_sae(other.metadata):
        raise InputError(
            f"--against={other.name}: is a meta-SAE, whose rows are no activations of a model. Leave it out."
        )
    models = [about.get("model") for about in (own.metadata, other.metadata)]
    if all(models) and models[0] != models[1] and not same_place(*models):
        raise InputError(
            f"--against={other.name}: is of the model {models[1]}, and --run={run} of {models[0]}: directions of two models "
            "have nothing in common. Give dictionaries of one model."
        )
    sites = common_sites(context, other)
    if not sites:
        raise InputError(
            f"--against={other.name}: writes {'+'.join(other.writes) or 'no site that it names'}, and --run={run} writes "
            f"{'+'.join(context.writes)}. Give dictionaries of one site."
        )
    here = dict(zip(context.writes, own.widths.written_sites, strict=True))
    there = dict(zip(other.writes, other.widths.written_sites, strict=True))
    for site in sites:
        if here[site] != there[site]:
            raise InputError(
                f"--against={other.name}: has d_model {there[site]} at {site}, and --run={run} has {here[site]} there. Give "
                "dictionaries of one model."
            )


def differences(run: str, other: Other, own: Dictionary) -> dict[str, list[Any]]:
    """{flag: [of the run, of the other]} in what they were trained by, and `step`; what their flag files do not say is taken
    of the dictionaries themselves."""
    files = [_flag_file(path) for path in (run, other.path)]
    if all(files):
        here, there = (to_dict(read_flag_file(file, TrainConfig)) for file in files)
        ignored = {*FREE_ON_RESUME, "workdir"} | ({"store"} if same_place(here["store"], there["store"]) else set())
        names = [n for n in dict.fromkeys((*_SHOWN, *here)) if n not in ignored]
    else:
        here, there = to_dict(own.config), to_dict(other.method)
        names = [n for n in dict.fromkeys((*_SHOWN, *here)) if n in here]
    found = {n: [here[n], there[n]] for n in names if here.get(n) != there.get(n)}
    steps = [own.metadata.get("step"), other.step]
    return found | ({"step": steps} if steps[0] != steps[1] else {})


def _flag_file(path: str) -> Path | None:
    """That of a run, or of the run whose checkpoint is named."""
    place = Path(path)
    runs = (place, place.parent.parent) if place.parent.name == CHECKPOINTS else (place,)
    return next((run / FLAGS for run in runs if (run / FLAGS).is_file()), None)


def is_other_seed(differs: Mapping[str, Any]) -> bool:
    """Whether two runs are alike in all but the seed: what they share is what any dictionary can be asked to share."""
    return bool(differs) and set(differs) <= SEEDS
