"""Configuration is written once: frozen dataclasses that become absl flags and flag files.

A field's default, type and help stand in the dataclass; `define_flags` makes the flags,
`from_flags` builds the dataclass back, `to_flag_lines` writes the flag file that reproduces it.
A field whose type is itself a dataclass is a group: its fields become flags of the same level.
"""

import csv
import dataclasses
import io
import math
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from absl import flags

from jaxsae import flag_files
from jaxsae.errors import InputError
from jaxsae.files import write_text

T = TypeVar("T")


def option(default: Any = dataclasses.MISSING, help: str = "", no_number: str = "", **kwargs) -> Any:
    """A dataclass field with a help text; without a default the flag is required.

    Args:
      no_number: what to say to a number, of a flag that is true or false and was a number once.
    """
    return dataclasses.field(default=default, metadata={"help": help, "no_number": no_number}, **kwargs)


def group(cls: type) -> Any:
    """A field that holds another configuration dataclass, all defaults unless flags say otherwise."""
    return dataclasses.field(default_factory=cls)


def leaves(cls: type) -> Iterator[tuple[dataclasses.Field, Any]]:
    """The flags of `cls`: its fields, groups flattened, each with its resolved type."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(hints[field.name]):
            yield from leaves(hints[field.name])
        else:
            yield field, hints[field.name]


def _without_none(hint: Any) -> Any:
    """X for X | None, anything else unchanged."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return next(a for a in typing.get_args(hint) if a is not type(None))
    return hint


class _Whole(flags.IntegerParser):
    def convert(self, argument: int | str) -> int:
        return _converted(super().convert, argument, "a whole number in digits, such as 1000")


class _Number(flags.FloatParser):
    def convert(self, argument: float | str) -> float:
        return _converted(super().convert, argument, "a number, such as 0.001")


class _NoNumber(flags.BooleanParser):
    def __init__(self, instead: str):
        self._instead = instead

    def parse(self, argument: str | int | bool) -> bool:
        if str(argument).strip().lstrip("+-").isdigit():  # 0 and 1 among them, which have meant something else
            raise ValueError(self._instead)
        return super().parse(argument)


def _converted(convert: Callable, argument: Any, what: str) -> Any:
    try:
        return convert(argument)
    except ValueError:
        raise ValueError(f"expected {what}.") from None  # absl puts the flag and its value in front


def define_flags(cls: type, flag_values: flags.FlagValues) -> None:
    """Defines one absl flag for each field of `cls` in `flag_values`.

    Raises:
      TypeError: a field has a type that no flag holds.
    """
    for field, hint in leaves(cls):
        hint, text = _without_none(hint), field.metadata.get("help", "")
        default = None if field.default is dataclasses.MISSING else field.default
        common = dict(flag_values=flag_values)
        origin = typing.get_origin(hint)
        if hint is bool:
            flag = flags.BooleanFlag(field.name, default, text)
            if instead := field.metadata.get("no_number"):
                flag.parser = _NoNumber(instead)
            flags.DEFINE_flag(flag, **common)
        elif hint is int:
            flags.DEFINE(_Whole(), field.name, default, text, serializer=flags.ArgumentSerializer(), **common)
        elif hint is float:
            flags.DEFINE(_Number(), field.name, default, text, serializer=flags.ArgumentSerializer(), **common)
        elif hint is str:
            flags.DEFINE_string(field.name, default, text, **common)
        elif origin is Literal:
            flags.DEFINE_enum(field.name, default, list(typing.get_args(hint)), text, **common)
        elif origin is tuple:
            value = None if default is None else _joined(default)
            flags.DEFINE_list(field.name, value, text, **common)
        else:
            raise TypeError(f"{cls.__name__}.{field.name}: no flag type for {hint}")


def _joined(values: Iterable[Any]) -> str:
    """Values as a flag holds them: comma-separated, quoted where they hold a comma or a quote themselves."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(map(str, values))
    return text.getvalue()


def _parse_tuple(name: str, hint: Any, value: list[str]) -> tuple:
    element = typing.get_args(hint)[0]
    try:
        return tuple(element(v) for v in value if v != "")
    except ValueError:
        raise InputError(
            f"--{name}={','.join(value)}: expected a comma-separated list of {element.__name__}s"
        ) from None


def from_flags(cls: type[T], flag_values: flags.FlagValues, implied: Mapping[str, Any] | None = None) -> T:
    """Builds `cls` from parsed flags.

    Args:
      implied: values of flags that were not given, where they follow from others; the rest has its default.

    Raises:
      InputError: a required flag is missing, or a value does not pass the class's own checks.
    """
    hints, values, implied = typing.get_type_hints(cls), {}, implied or {}
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            values[field.name] = from_flags(hint, flag_values, implied)
            continue
        value = flag_values[field.name].value
        if field.name in implied and not flag_values[field.name].present:
            value = implied[field.name]
        if value is None and field.default is dataclasses.MISSING:
            raise InputError(f"--{field.name} is required: {field.metadata.get('help', '')}")
        if value is not None and typing.get_origin(_without_none(hint)) is tuple:
            value = _parse_tuple(field.name, _without_none(hint), value)
        values[field.name] = value
    return cls(**values)


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as one flat dictionary of plain JSON values."""
    out = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            out.update(to_dict(value))
        else:
            out[field.name] = list(value) if isinstance(value, tuple) else value
    return out


def from_dict(cls: type[T], values: dict[str, Any]) -> T:
    """The inverse of `to_dict`; keys that `cls` lacks are ignored, missing ones take their defaults."""
    hints, kwargs = typing.get_type_hints(cls), {}
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(hints[field.name]):
            kwargs[field.name] = from_dict(hints[field.name], values)
        elif field.name in values:
            value = values[field.name]
            kwargs[field.name] = tuple(value) if isinstance(value, list) else value
    return cls(**kwargs)


def flag_text(value: Any) -> str:
    """A plain value, or a tuple or list of some, as a flag holds it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return _joined(value)
    return repr(value) if isinstance(value, float) else str(value)


def to_flag_lines(config: Any) -> list[str]:
    """One `--name=value` line for each field; fields that are None are left out."""
    return [f"--{name}={flag_text(value)}" for name, value in to_dict(config).items() if value is not None]


def write_flag_file(path: Path, config: Any, command: str, *notes: str) -> None:
    """Writes a flag file whose head says the command that runs it; comments of the file that was there stay below.

    Args:
      notes: comments to add, without the `#`.
    """
    head = f"# jaxsae {command} --flagfile="  # an earlier one may name another place
    kept = [line for line in flag_files.comments(path) if not line.startswith(head)] if path.is_file() else []
    top = [f"{head}{path}", *kept, *(f"# {note}" for note in notes), ""]
    write_text(path, "\n".join(top + to_flag_lines(config)) + "\n")


def read_flag_file(path: Path, cls: type[T]) -> T:
    """Builds `cls` from a flag file alone, apart from the process's own flags."""
    try:
        return from_flag_lines(cls, [f"--flagfile={path}"])
    except flags.Error as error:
        raise InputError(f"{path}: {error}") from None


def from_flag_lines(cls: type[T], lines: Iterable[str]) -> T:
    """Builds `cls` from lines such as `--name=value`; the inverse of `to_flag_lines`.

    Raises:
      InputError: as `from_flags`. absl.flags.Error: a flag that is none, or a value of another type.
    """
    flag_values = flags.FlagValues()
    define_flags(cls, flag_values)
    flag_values.set_gnu_getopt(True)
    flag_values(["jaxsae", *flag_files.expand(lines)])
    return from_flags(cls, flag_values)


def check(condition: bool, flag: str, value: Any, fix: str) -> None:
    """Raises `InputError` naming the flag, its value and the fix unless `condition` holds."""
    if not condition:
        raise InputError(f"--{flag}={value}: {fix}")


def check_positive(config: Any, *names: str) -> None:
    """Every named field must be a finite number above zero, or None."""
    for name in names:
        value = getattr(config, name)
        if value is not None:
            check(math.isfinite(value), name, value, "must be finite")
            check(value > 0, name, value, "must be above 0")
