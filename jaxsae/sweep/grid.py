"""The members of a sweep: one `TrainConfig` for each point of the grid, under a name that says what it differs in."""

import dataclasses
import difflib
import fnmatch
import itertools
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from absl import flags

from jaxsae.config import check, from_flag_lines, to_dict
from jaxsae.dictionary import check_switches, idle_switches
from jaxsae.errors import InputError
from jaxsae.progress import say
from jaxsae.sweep.config import LISTS, SweepConfig
from jaxsae.sweep.rules import number, rate_at, tokens_at
from jaxsae.training.config import TrainConfig

MEMBERS = "members"  # of a sweep's directory: the members' runs
_MOST = 10_000
_ONLY = "member"  # the name of one that nothing sets apart


@dataclasses.dataclass(frozen=True)
class Member:
    """A member: its name, its run's configuration, and whether the fits are to predict it instead of seeing it."""

    name: str
    config: TrainConfig
    held_out: bool = False

    @property
    def flags(self) -> dict:
        """The run's flags that are set, without its directory."""
        return {n: v for n, v in to_dict(self.config).items() if n != "workdir" and v is not None}


def make_members(config: SweepConfig) -> list[Member]:
    """All members, in the order of the lists.

    Raises:
      InputError: a list with a value twice, lists that cannot be zipped, values that `train` would refuse, patterns of
        --holdout_members that name none or all.
    """
    lists = {f.name: list(getattr(config.grid, f.name)) for f in dataclasses.fields(config.grid)}
    for name, values in lists.items():
        twice = next((v for v in values if values.count(v) > 1 and not _is_zipped(config, name)), None)
        if twice is not None:
            raise InputError(f"--{name}={','.join(values)}: {twice} stands there twice")
    found: dict[tuple, Member] = {}
    points = _points(config, {name: values for name, values in lists.items() if values})
    idle = [_idle(point) for point in points]
    for point, switches in zip(points, idle, strict=True):
        member = _member(config, point, switches, [n for n, values in lists.items() if len(values) > 1])
        found.setdefault(_essence(member), member)
    members = list(found.values())
    _check_idle(config, [(point["architecture"], switches) for point, switches in zip(points, idle, strict=True)])
    if len(points) > len(members):
        say(f"{len(points)} points of the grid are {len(members)} members: some flags do nothing in some of them.")
    names = [m.name for m in members]
    if len(set(names)) < len(names):
        same = next(n for n in names if names.count(n) > 1)
        raise InputError(f"two members are called {same}: give values of flags that differ in letters or digits")
    return _held_out(config, members)


def _is_zipped(config: SweepConfig, name: str) -> bool:
    return name in config.zip or config.zip == ("all",)


def _points(config: SweepConfig, lists: Mapping[str, list[str]]) -> list[dict[str, str]]:
    """Flag -> value of each member, before the rules."""
    zipped = [n for n, v in lists.items() if len(v) > 1] if config.zip == ("all",) else list(config.zip)
    for name in zipped:
        if name not in {f.name for f in dataclasses.fields(config.grid)}:
            near = difflib.get_close_matches(name, [f.name for f in dataclasses.fields(config.grid)], 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise InputError(f"--zip={','.join(config.zip)}: {name} is no flag of `jaxsae train`.{hint}")
        if name not in lists:
            raise InputError(f"--zip={','.join(config.zip)}: --{name} has no values")
    lengths = {name: len(lists[name]) for name in zipped}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"--{n} has {c}" for n, c in lengths.items())
        raise InputError(f"--zip={','.join(config.zip)}: the lists must be equally long; {shown} values")
    axes = [[((name, v),) for v in values] for name, values in lists.items() if name not in zipped]
    if zipped:
        rows = zip(*(lists[name] for name in zipped), strict=True)
        axes.insert(0, [tuple(zip(zipped, row, strict=True)) for row in rows])
    count = 1
    for axis in axes:
        count *= len(axis)
    if count > _MOST:
        raise InputError(
            f"the lists make {count:,} members, and a sweep has {_MOST:,} at most: use --zip, or shorter ones"
        )
    return [dict(itertools.chain(*choice)) for choice in itertools.product(*axes)]


def _member(config: SweepConfig, point: Mapping[str, str], idle: set[str], varied: list[str]) -> Member:
    name = "_".join(f"{n}{_plain(point[n])}" for n in varied if n in point and n not in idle) or _ONLY
    values = {name: value for name, value in point.items() if name not in idle}
    width, batch = (number(n, values[n], int) for n in ("width", "batch_size"))
    if config.tokens_exponent:
        tokens = number("tokens", values["tokens"], int)
        values["tokens"] = str(tokens_at(width, tokens, batch, config.tokens_exponent, config.anchor_width))
    if config.learning_rate_exponent:
        rate = number("learning_rate", values["learning_rate"], float)
        values["learning_rate"] = repr(rate_at(width, rate, config.learning_rate_exponent, config.anchor_width))
    values |= {"store": config.store, "workdir": str(Path(config.workdir) / MEMBERS / name)}
    if config.mesh:
        values["mesh"] = ",".join(map(str, config.mesh))
    try:
        fix = "members of a sweep are autoencoders of one site. Give --site, and train others with `jaxsae train`"
        for flag in ("writes", "reads", "sites"):
            check(not values.get(flag), flag, values.get(flag), fix)
        made = from_flag_lines(TrainConfig, [f"--{n}={v}" for n, v in values.items()])
        check_switches(made.method)
        return Member(name, made)
    except (InputError, flags.Error) as error:
        quoted = next((n for n in LISTS if str(error).startswith(f"--{n}=")), None)
        hint = (
            f". A sweep's lists are cut at commas; a member's own is quoted: --{quoted}='\"8,64\"'." if quoted else ""
        )
        raise InputError(f"{'' if name == _ONLY else f'member {name}: '}{error}{hint}") from None


def _plain(value: str) -> str:
    """A value as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", value).strip("-") or "none"


def _essence(member: Member) -> tuple:
    """What a member computes: its flags but for those that do nothing in it, and its directory."""
    idle = idle_switches(member.flags)
    return tuple((n, str(v)) for n, v in member.flags.items() if n not in idle)


def _check_idle(config: SweepConfig, idle: list[tuple[str, set[str]]]) -> None:
    """Refuses switches that do nothing in any member, (architecture, those idle) of each; says of which methods they are
    not."""
    for field in dataclasses.fields(config.grid):
        name, values = field.name, getattr(config.grid, field.name)
        if values == field.default:
            continue
        without = [architecture for architecture, switches in idle if name in switches]
        fix = f"does nothing in any member (--architecture={','.join(dict.fromkeys(without))}). Leave the flag out"
        check(len(without) < len(idle), name, ",".join(values), fix)
        of = set(without) - {architecture for architecture, switches in idle if name not in switches}
        if of:
            say(f"--{name} is not for members of --architecture={','.join(sorted(of))}.")


def _idle(point: Mapping[str, str]) -> set[str]:
    """Switches that do nothing in a member; none where its architecture is none, which is refused with its flags."""
    with suppress(KeyError):
        return idle_switches(point)
    return set()


def held_out(names: Iterable[str], patterns: Iterable[str]) -> set[str]:
    """Those of the members' names that a pattern of --holdout_members fits."""
    patterns = list(patterns)
    return {name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)}


def _held_out(config: SweepConfig, members: list[Member]) -> list[Member]:
    names = [m.name for m in members]
    for pattern in config.holdout_members:
        if not held_out(names, (pattern,)):
            first = ", ".join(names[:4])
            raise InputError(f"--holdout_members={pattern}: no member is called so; they are called {first}, ...")
    chosen = held_out(names, config.holdout_members)
    if len(chosen) == len(members) and members:
        raise InputError(f"--holdout_members={','.join(config.holdout_members)}: leaves no member for the fits")
    return [dataclasses.replace(m, held_out=m.name in chosen) for m in members]
