"""Modules that have a command's name, called as the command: jaxsae.evaluate(run=R), where jaxsae.evaluate is a package.

Python sets a package's attribute to a module of that name as soon as anything imports it, over whatever function stood
there. So the module itself can be called, whichever comes first; `jaxsae.evaluate.SUITES` and `from jaxsae.evaluate import
evaluate`, which takes a configuration, stay what they are.
"""

import importlib
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

from jaxsae.commands import COMMANDS


def _calls() -> ModuleType:
    return importlib.import_module("jaxsae.calls")  # absl and numpy, which `import jaxsae` does without


class CommandModule(ModuleType):
    """A module of the package that is called as the command of its name."""

    def __call__(self, config: Any = None, /, **flags: Any) -> Any:
        return _calls().call(self._command, config, flags)

    @property
    def _command(self) -> str:
        return self.__name__.rpartition(".")[2]

    @property
    def __signature__(self) -> inspect.Signature:
        return _calls().signature(self._command)

    @property
    def __doc__(self) -> str:
        return f"{self.__dict__.get('__doc__') or ''}\n{_calls().description(self._command)}"


class Package(ModuleType):
    """The package, which makes a module of it that has a command's name one to be called."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in COMMANDS and type(value) is ModuleType:
            value.__class__ = CommandModule
        super().__setattr__(name, value)


def function(command: str) -> Callable[..., Any]:
    """A command that has no module of its name, as a function."""

    def run(config: Any = None, /, **flags: Any) -> Any:
        return _calls().call(command, config, flags)

    run.__name__ = run.__qualname__ = _calls().python_name(command)
    run.__module__, run.__doc__ = "jaxsae", _calls().description(command)
    run.__signature__ = _calls().signature(command)
    return run
