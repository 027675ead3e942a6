"""Commands called from Python: jaxsae.train(store=S, workdir=R, width=2048, k=16), whose arguments are the command's flags.

One mechanism for all of them, out of the table of commands: values are parsed as flags are, so that what is refused is
refused in the same words. See `named.py` for how a module that has a command's name is called.
"""

import dataclasses
import difflib
import inspect
import os
import textwrap
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from absl import flags

from jaxsae.commands import COMMANDS
from jaxsae.config import define_flags, flag_text, from_flags, leaves
from jaxsae.errors import InputError

NAMES = {"import": "import_"}  # commands whose name is no name in Python
_WRAP = 100


def python_name(command: str) -> str:
    """What a command is called by in Python."""
    return NAMES.get(command, command)


def call(command: str, config: Any = None, given: Mapping[str, Any] | None = None) -> Any:
    """Runs a command, and gives what its function does.

    Args:
      config: its configuration; None: that of the flags `given`, {name: value}.

    Raises:
      InputError: a name or a value that is no flag's, both a configuration and flags; whatever the command refuses.
    """
    config_class, function = COMMANDS[command].load()
    if config is None:
        return function(configuration(command, given or {}))
    told = f"jaxsae.{python_name(command)}"
    if not isinstance(config, config_class):
        raise InputError(
            f"{told}({config!r}): takes a {config_class.__name__}, or its fields by name, such as "
            f"{told}({next(leaves(config_class))[0].name}=...)."
        )
    if given:
        raise InputError(f"{told}: takes a {config_class.__name__} or its fields by name, not both.")
    return function(config)


def configuration(command: str, given: Mapping[str, Any]) -> Any:
    """The configuration of a command whose flags have the values `given`; None counts as not given.

    Raises:
      InputError: as `call`.
    """
    config_class, _ = COMMANDS[command].load()
    hints = {field.name: hint for field, hint in leaves(config_class)}
    lines = []
    for name, value in given.items():
        if name not in hints:
            raise InputError(_unknown(command, name, hints))
        if typing.get_origin(hints[name]) is tuple and isinstance(value, os.PathLike | int | float):
            value = [value]  # a path may hold a comma
        if value is not None:
            lines.append(f"--{name}={_text(command, name, value)}")
    values = flags.FlagValues()
    define_flags(config_class, values)
    try:
        values([command, *lines])
    except flags.Error as error:
        raise InputError(f"jaxsae.{python_name(command)}: {error}") from None
    present = {name: values[name].value for name in values if values[name].present}
    return from_flags(config_class, values, COMMANDS[command].implied_flags(present))


def signature(command: str) -> inspect.Signature:
    """That of a command in Python: a configuration, or each of its flags by name; those that are required have no default."""
    config_class, function = COMMANDS[command].load()
    made = [inspect.Parameter("config", inspect.Parameter.POSITIONAL_ONLY, default=None, annotation=config_class)]
    for field, hint in leaves(config_class):
        default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
        made.append(inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint))
    return inspect.Signature(made, return_annotation=inspect.signature(function).return_annotation)


def description(command: str) -> str:
    """What `help` says: what the command does, each of its arguments, and what it gives."""
    config_class, function = COMMANDS[command].load()
    called = f"jaxsae.{python_name(command)}"
    lines = [f"`jaxsae {command}`: {COMMANDS[command].help}.", "", "Args:"]
    lines += _entry(f"config: a {config_class.__name__}, instead of what follows, which are its fields and the flags.")
    for field, _ in leaves(config_class):
        default = "" if field.default is dataclasses.MISSING else f" Default: {field.default!r}."
        lines += _entry(f"{field.name}: {field.metadata.get('help', '')}.{default}")
    for part in inspect.cleandoc(function.__doc__ or "").split("\n\n"):
        lines += ["", part] if part.startswith(("Returns:", "Raises:")) else []
    return "\n".join([f"{called}(config) or {called}(name=value, ...)", "", *lines])


def _entry(text: str) -> list[str]:
    return textwrap.wrap(text, _WRAP, initial_indent="  ", subsequent_indent="      ")


def _unknown(command: str, name: str, fields: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, sorted(fields), n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]}?" if near else ""
    called = f"jaxsae.{python_name(command)}"
    return f"{called}({name}=...): no such argument.{hint} help({called}) lists them."


def _text(command: str, name: str, value: Any) -> str:
    """A value as its flag holds it."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple | range):
        return flag_text([_text(command, name, part) for part in value])
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str | bool | int | float):
        return flag_text(value)
    raise InputError(
        f"jaxsae.{python_name(command)}({name}={type(value).__name__}): give a string, a number, a path or a list of such."
    )
