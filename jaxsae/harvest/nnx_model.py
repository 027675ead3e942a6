"""What a harvest needs of a flax nnx model, and the user's function that gives it."""

import dataclasses
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import jax
from flax import nnx

from jaxsae.errors import InputError

_PACKAGE = os.path.dirname(os.path.dirname(__file__))
Read = Callable[[nnx.Module, jax.Array, tuple[str, ...]], Mapping[str, jax.Array]]


@dataclasses.dataclass(frozen=True)
class NNXModel:
    """A model with a way to read its activations; `--model=MODULE:FUNCTION` names a function that returns one.

    Attributes:
      model: with its weights. Those that lie on one device are copied to all; a sharding of your own is kept.
      read: (model, tokens int32 [B, T], sites) -> {site: [B, T, d_model]}, for jax.jit. Sequences are filled up with
        token 0 at their end, which a causal model does not look at; rows of it are dropped.
      sites: names of the activations that there are.
      vocabulary: number of tokens.
      context: the most positions, None where there is no limit.

    Raises:
      InputError: one of these is of another kind.
    """

    model: nnx.Module
    read: Read
    sites: tuple[str, ...]
    vocabulary: int
    context: int | None = None

    def __post_init__(self):
        count = lambda value: isinstance(value, int) and not isinstance(value, bool) and value > 0
        names = not isinstance(self.sites, str) and all(isinstance(site, str) and site for site in self.sites)
        for field, good, wanted in (
            ("model", isinstance(self.model, nnx.Module), "a flax nnx.Module"),
            ("read", callable(self.read), "a function of model, tokens and sites"),
            ("sites", names and len(tuple(self.sites)) > 0, "a tuple of names, such as ('embed', 'resid_post.2')"),
            ("vocabulary", count(self.vocabulary), "the number of tokens"),
            ("context", self.context is None or count(self.context), "a number of positions, or None"),
        ):
            if not good:
                value = getattr(self, field)
                shown = type(value).__name__ if field in ("model", "read") else repr(value)
                raise InputError(f"NNXModel({field}={shown}): must be {wanted}.")


def build(name: str) -> NNXModel:
    """Calls MODULE:FUNCTION.

    Raises:
      InputError: there is none, it takes arguments, fails, or gives something else.
    """
    module, _, function = name.partition(":")
    if not module or not function:
        raise InputError(f"--model={name}: give MODULE:FUNCTION, such as my_model:build.")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        with explained(f"--model={name}: {module} cannot be imported"):
            imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(f"--model={name}: {error}. Looked in {os.getcwd()} and in what is installed.") from None
    make = getattr(imported, function, None)
    if not callable(make):
        what = "has no" if make is None else "has no function"
        raise InputError(f"--model={name}: {module} {what} {function}.")
    if needed := _arguments_needed(make):
        raise InputError(f"--model={name}: {function} needs {', '.join(needed)}; give a function without arguments.")
    with explained(f"--model={name}: {function}() failed"):
        found = make()
    if not isinstance(found, NNXModel):
        raise InputError(f"--model={name}: returned {type(found).__name__}, not a jaxsae.harvest.NNXModel.")
    return found


def _arguments_needed(function: Callable) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of a built-in
        return []
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in optional]


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Tells what a user's own code raises in one line, with the line of code; what a module lacks stays as it is."""
    try:
        yield
    except (InputError, ModuleNotFoundError):
        raise
    except Exception as error:
        own = [f for f in traceback.extract_tb(error.__traceback__) if "site-packages" not in f.filename]
        own = [f for f in own if not f.filename.startswith(_PACKAGE) and os.path.exists(f.filename)]
        where = f" at {own[-1].filename}:{own[-1].lineno}" if own else ""
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"{what}: {type(error).__name__}{where}: {reason}") from error
