"""Hooks of flax nnx models: the GPT in the box by the names of sites, any other by modules' paths.

While a context lasts a module is of a class of its own, whose call makes the edits, so that parameters keep their places and
nnx.jit, which looks at classes, traces again. A jax.jit that closes over the model does not: what it traced before stays.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsae.dictionary import Dictionary
from jaxsae.errors import InputError
from jaxsae.hooks.edit import Edit
from jaxsae.hooks.where import Where
from jaxsae.kernels.products import product
from jaxsae.lm.gpt import GPT, check_sites
from jaxsae.progress import say

Change = Callable[[jax.Array], Any]  # of what stands somewhere; gives what is to stand there, or None


@contextmanager
def edited(model: nnx.Module, edits: Sequence[Edit], where: Where) -> Iterator[None]:
    """While it lasts `edits` are made where `where` says; see `api.splice`."""
    one = _Pass(where)
    changes: list[tuple[str, Change]] = [
        (site, partial(one.keep, site)) for edit in edits if edit.reads_elsewhere for site in edit.reads
    ]
    changes = list({site: (site, change) for site, change in changes}.values())
    changes += [(edit.writes, partial(one.swap, edit)) for edit in edits]
    with ExitStack() as stack:
        stack.callback(one.end)
        stack.enter_context(_called(model, _Ids(one)))
        _change(model, changes, stack)
        yield
    if not one.reached:
        say(
            f"hooks: no pass came to {edits[0].writes} while they were there. A jax.jit that closes over the model and was "
            "called before does not see them: give the model to nnx.jit, or trace anew."
        )


@contextmanager
def reading(model: nnx.Module, sites: Sequence[str], seen: dict[str, Any]) -> Iterator[None]:
    """While it lasts `seen` takes what stands at sites."""

    def keep(site: str, x: jax.Array) -> None:
        seen[site] = x

    with ExitStack() as stack:
        _change(model, [(site, partial(keep, site)) for site in sites], stack)
        yield


def _change(model: nnx.Module, changes: Sequence[tuple[str, Change]], stack: ExitStack) -> None:
    """Makes changes at sites until `stack` ends."""
    if isinstance(model, GPT):
        check_sites(model.config, [site for site, _ in changes], flag="site")
        for site, change in changes:
            stack.enter_context(_called(model, _Tap(site, change)))
        return
    modules = {".".join(map(str, path)): module for path, module in nnx.iter_modules(model)}
    for site, change in changes:
        path = site.removesuffix(".input") if site not in modules else site
        if path not in modules:
            there = ", ".join(sorted(name for name in modules if name)[:8])
            raise InputError(
                f"hooks: site={site}: give site= the path of one of this model's modules, such as {there}."
            )
        stack.enter_context(_called(modules[path], (_Input if path != site else _Output)(site, change)))


class _Hook:
    """What is done to a call's arguments and to what it gives."""

    def before(self, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        return args, kwargs

    def after(self, out: Any) -> Any:
        return out


class _Ids(_Hook):
    """Notes the ids that the model is given."""

    def __init__(self, one: "_Pass"):
        self.one = one

    def before(self, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        is_ids = lambda x: getattr(x, "ndim", 0) == 2 and jnp.issubdtype(x.dtype, jnp.integer)
        self.one.ids = next((x for x in (*args, *kwargs.values()) if is_ids(x)), None)
        return args, kwargs

    def after(self, out: Any) -> Any:
        self.one.end()
        return out


class _At(_Hook):
    def __init__(self, site: str, change: Change):
        self.site, self.change = site, change

    def _changed(self, x: Any) -> Any:
        new = self.change(x)
        return x if new is None else new


class _Output(_At):
    def after(self, out: Any) -> Any:
        if isinstance(out, tuple | list):
            return type(out)([self._changed(out[0]), *out[1:]])
        return self._changed(out)


class _Input(_At):
    def before(self, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        if args:
            return (self._changed(args[0]), *args[1:]), kwargs
        name = next(iter(kwargs))
        return args, kwargs | {name: self._changed(kwargs[name])}


class _Tap(_At):
    """A site of the GPT in the box; what the caller replaces there is changed."""

    def before(self, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        tokens, *given = args
        kwargs = dict(zip(("read", "replace"), given, strict=False)) | kwargs
        replace = dict(kwargs.get("replace") or {})
        first = replace.get(self.site, lambda x: x)
        return (tokens,), kwargs | {"replace": replace | {self.site: lambda x: self._changed(first(x))}}


@contextmanager
def _called(module: nnx.Module, hook: _Hook) -> Iterator[None]:
    """While it lasts calls of a module pass through a hook, after those that are there."""
    kind = type(module)
    plain, hooks = getattr(kind, "_jaxsae_hooks", (kind, ()))

    def call(self: nnx.Module, *args: Any, **kwargs: Any) -> Any:
        for one in (*hooks, hook):
            args, kwargs = one.before(args, kwargs)
        out = plain.__call__(self, *args, **kwargs)
        for one in (*hooks, hook):
            out = one.after(out)
        return out

    changed = type(plain.__name__, (plain,), {"__call__": call, "_jaxsae_hooks": (plain, (*hooks, hook))})
    object.__setattr__(module, "__class__", changed)
    try:
        yield
    finally:
        object.__setattr__(module, "__class__", kind)


class _Rows:
    """What an edit needs of JAX; traced by an outer jit or not."""

    constant, product = staticmethod(jnp.asarray), staticmethod(lambda a, b: product(a, b, 1, 0))

    @staticmethod
    def reconstruct(dictionary: Dictionary, x: jax.Array) -> jax.Array:
        return dictionary.reconstruct_all(x) if isinstance(x, jax.core.Tracer) else dictionary.reconstruct(x)

    @staticmethod
    def values(dictionary: Dictionary, x: jax.Array, latents: Sequence[int]) -> jax.Array:
        return dictionary.values(x, latents)


class _Pass:
    """What is known of the pass that is under way."""

    def __init__(self, where: Where):
        self.where, self.reached, self.ids = where, False, None
        self._seen: dict[str, jax.Array] = {}

    def end(self) -> None:
        self.ids, self._seen = None, {}

    def keep(self, site: str, x: jax.Array) -> None:
        self._seen[site] = x

    def swap(self, edit: Edit, y: jax.Array) -> jax.Array:
        self.reached, widths = True, edit.dictionary.widths
        x = jnp.concatenate(edit.parts(self._seen, y), -1)
        if (x.shape[-1], y.shape[-1]) != (widths.d_in, widths.d_out):
            raise InputError(
                f"hooks: sites {'+'.join(edit.reads)} and {edit.writes} of this model have widths {x.shape[-1]} and "
                f"{y.shape[-1]}, and the dictionary {widths.d_in} and {widths.d_out}."
            )
        error = None if isinstance(edit.error, bool) else jnp.asarray(edit.error, jnp.float32)
        if error is not None and error.shape != y.shape:
            raise InputError(f"hooks: error {list(error.shape)}: activations are {list(y.shape)}")
        rows = lambda a: None if a is None else a.reshape(-1, a.shape[-1]).astype(jnp.float32)
        new = edit.rows(rows(x), rows(y), rows(error), _Rows()).reshape(y.shape).astype(y.dtype)
        mask = self.where.mask(self.ids, tuple(y.shape[:-1]), (), jnp.asarray)
        return new if mask is None else jnp.where(mask[..., None], new, y)
