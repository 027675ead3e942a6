"""Hooks of torch models: transformers' by the names of sites, any other by modules' paths."""

import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np

from jaxsae.dictionary import Dictionary
from jaxsae.dictionary.many import padded
from jaxsae.errors import InputError
from jaxsae.hooks.edit import Edit
from jaxsae.hooks.names import candidates
from jaxsae.hooks.where import Where, special_of
from jaxsae.lm.sites import Place, locate
from jaxsae.lm.torch_hooks import hooked
from jaxsae.lm.torch_lm import TorchLM
from jaxsae.progress import say

_trials: "weakref.WeakKeyDictionary[Any, dict[str, tuple[Place, int]]]" = weakref.WeakKeyDictionary()
_trying = False  # a trial's own passes are of a model without hooks


@contextmanager
def edited(model: Any, edits: Sequence[Edit], where: Where) -> Iterator[None]:
    """While it lasts `edits` are made where `where` says; see `api.splice`."""
    at = places(model, [site for edit in edits for site in (*edit.reads, edit.writes)])
    for edit in edits:
        _check_widths(edit, at)
    special = special_of(model.config) if hasattr(model, "config") else ()
    one = _Pass(where, special)
    with ExitStack() as hooks:
        hooks.callback(model.register_forward_pre_hook(one.begin, with_kwargs=True).remove)
        hooks.callback(model.register_forward_hook(one.end, always_call=True).remove)
        for site in dict.fromkeys(site for edit in edits if edit.reads_elsewhere for site in edit.reads):
            hooks.enter_context(hooked(model, at[site][0], partial(one.keep, site)))
        for edit in edits:
            hooks.enter_context(hooked(model, at[edit.writes][0], partial(one.swap, edit)))
        yield
    if not one.reached:
        say(f"hooks: no pass came to {edits[0].writes} while they were there.")


@contextmanager
def reading(model: Any, sites: Sequence[str], seen: dict[str, Any]) -> Iterator[None]:
    """While it lasts `seen` takes what stands at sites."""
    at = places(model, sites)

    def keep(site: str, x: Any) -> None:
        if not _trying:
            seen[site] = x.detach().clone()  # later layers may write into x

    with ExitStack() as hooks:
        for site in sites:
            hooks.enter_context(hooked(model, at[site][0], partial(keep, site)))
        yield


def places(model: Any, sites: Sequence[str]) -> dict[str, tuple[Place, int | None]]:
    """{site: its place, and its width where a trial pass has shown it}.

    Raises:
      InputError: no such site; what it is named after is not what stands there.
    """
    paths = {path for path, _ in model.named_modules() if path}
    if not hasattr(getattr(model, "config", None), "get_text_config"):
        return {site: (_path(site, paths), None) for site in sites}
    known = _trials.setdefault(model, {})
    for site in sites:
        if site not in known:
            name = next((n for n in candidates(site, paths) if locate(model, n) or _is_path(n, paths)), site)
            known[site] = _tried(model, name)
    return {site: known[site] for site in sites}


def _tried(model: Any, site: str) -> tuple[Place, int]:
    """A site's place and width, by a pass over a few tokens, of the model as it is without dropout."""
    global _trying
    modes = {module: module.training for module in model.modules()}
    _trying, before = True, _trying
    try:
        model.eval()
        lm = TorchLM.around(model)
        return lm.places((site,), "site")[site], lm.widths((site,), "site")[site]
    finally:
        _trying = before
        for module, training in modes.items():
            module.training = training


def _is_path(site: str, paths: set[str]) -> bool:
    return site in paths or site.removesuffix(".input") in paths


def _path(site: str, paths: set[str]) -> Place:
    for name in candidates(site, paths):
        if name in paths:
            return Place(name)
        if name.endswith(".input") and _is_path(name, paths):
            return Place(name.removesuffix(".input"), input=True)
    raise InputError(
        f"hooks: site={site}: this model is none of transformers', so give site= a module's path, such as "
        f"{', '.join(sorted(paths)[:3])}."
    )


def _check_widths(edit: Edit, at: dict[str, tuple[Place, int | None]]) -> None:
    read, widths = [at[site][1] for site in edit.reads], edit.dictionary.widths
    d_in = None if None in read else sum(read)
    sides = ((edit.reads, d_in, widths.d_in), ((edit.writes,), at[edit.writes][1], widths.d_out))
    for sites, found, wanted in sides:
        if found not in (None, wanted):
            raise InputError(
                f"hooks: site {'+'.join(sites)} of this model has width {found}, and the dictionary {wanted}."
            )


class _Rows:
    """What an edit needs of torch, for rows on a device: what the dictionary makes of them is padded to few sizes."""

    def __init__(self, device: Any):
        self.device = device

    def constant(self, array: np.ndarray) -> Any:
        import torch

        tensor = array if isinstance(array, torch.Tensor) else torch.tensor(array)
        return tensor.to(self.device)

    def reconstruct(self, dictionary: Dictionary, x: Any) -> Any:
        return dictionary.reconstruct(_padded(x))[: len(x)]

    def values(self, dictionary: Dictionary, x: Any, latents: Sequence[int]) -> Any:
        return dictionary.values(_padded(x), latents)[: len(x)]

    @staticmethod
    def product(a: Any, b: Any) -> Any:
        return a @ b


def _padded(x: Any) -> Any:
    """Rows, the last one again and again up to a power of two."""
    return padded(x.detach(), 1 << (len(x) - 1).bit_length())


class _Pass:
    """What is known of the pass that is under way."""

    def __init__(self, where: Where, special: tuple[int, ...]):
        self.where, self.special, self.reached = where, special, False
        self._ids: Any = None
        self._seen: dict[str, Any] = {}

    def begin(self, _: Any, args: tuple, kwargs: dict) -> None:
        ids = kwargs.get("input_ids", args[0] if args else None)
        self._ids = ids if getattr(ids, "ndim", 0) == 2 and not ids.is_floating_point() else None

    def end(self, *_: Any) -> None:
        self._ids, self._seen = None, {}

    def keep(self, site: str, x: Any) -> None:
        if not _trying:
            self._seen[site] = x.detach().clone()

    def swap(self, edit: Edit, y: Any) -> Any:
        if _trying:
            return None
        import torch

        self.reached, library = True, _Rows(y.device)
        parts = edit.parts(self._seen, y)
        mask = self.where.mask(self._ids, tuple(y.shape[:-1]), self.special, library.constant)
        index = None if mask is None else mask.reshape(-1).nonzero().reshape(-1)
        if index is not None and not len(index):
            return None
        flat = lambda t: t.reshape(-1, t.shape[-1])
        rows = lambda t: (flat(t) if index is None else flat(t).index_select(0, index)).float()
        error = None if isinstance(edit.error, bool) else rows(_like(edit.error, y, library))
        new = edit.rows(torch.cat([rows(part) for part in parts], -1), rows(y), error, library).to(y.dtype)
        return (new if index is None else flat(y).index_copy(0, index, new)).reshape(y.shape)


def _like(error: Any, y: Any, library: _Rows) -> Any:
    """An error that was given, for activations y."""
    array = library.constant(error if hasattr(error, "to") else np.array(error, np.float32))
    if array.shape != y.shape:
        raise InputError(f"hooks: error {list(array.shape)}: activations are {list(y.shape)}")
    return array
