"""splice, ablate, steer, read."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from jaxsae.dictionary import Dictionary
from jaxsae.errors import InputError
from jaxsae.hooks.edit import Edit, edits_of
from jaxsae.hooks.where import Where

Site = str | Sequence[str] | None


@contextmanager
def splice(
    model: Any,
    dictionary: Dictionary,
    site: Site = None,
    *,
    error: Any = False,
    positions: Any = None,
    special: Any = None,
) -> Iterator[Any]:
    """Its reconstructions stand where the dictionary writes; a transcoder's in the MLP's place.

    Args:
      model: one of transformers' models, another torch module, the GPT in the box, or another flax nnx module; within
        nnx.jit too. Under jax.jit the pass must be traced within the context.
      dictionary: a sparse autoencoder, a transcoder or a cross-layer transcoder.
      site: a name (`resid_post.8`, ...) or a module's path, with `.input` behind it for its first argument; of a transcoder
        two, (read, written). Default: the dictionary's own.
      error: True: what reconstructions leave out in this pass is added, so that the model does what it did; an array
        [B, T, d]: that is added, such as what they left out in a pass without changes.
      positions: where: a bool mask [B, T] or [T], a slice, numbers of positions, or a function of ids [B, T] that gives one
        of these. Default: all but those of special tokens.
      special: ids of tokens whose positions stay as they are, such as `tokenizer.all_special_ids`; () for none. Default:
        without `positions` those that model.config names, of models that are given ids.

    Yields:
      The model. No gradient passes through the dictionary.

    Raises:
      InputError: a crosscoder; a site that is not known, not there, or of another width; positions that do not fit.
    """
    with _edited(model, edits_of(dictionary, site, replaced=True, error=error), Where(positions, special)):
        yield model


@contextmanager
def ablate(
    model: Any,
    dictionary: Dictionary,
    latents: int | Sequence[int],
    site: Site = None,
    *,
    error: bool = True,
    positions: Any = None,
    special: Any = None,
) -> Iterator[Any]:
    """What some latents contribute is taken off: x - sum_i f_i W_dec,i.

    Args:
      latents: their numbers.
      error: whether the dictionary's error stays; False: of its reconstruction. All else as for `splice`.

    Yields, raises: as `splice`.
    """
    numbers = tuple(int(i) for i in np.reshape(latents, -1))
    changes = {"latents": numbers, "targets": (0.0,) * len(numbers), "replaced": not error}
    with _edited(model, edits_of(dictionary, site, **changes), Where(positions, special)):
        yield model


@contextmanager
def steer(
    model: Any,
    dictionary: Dictionary,
    values: Mapping[int, float],
    site: Site = None,
    *,
    clamp: bool = False,
    error: bool = True,
    positions: Any = None,
    special: Any = None,
) -> Iterator[Any]:
    """Decoder rows are added, values times: x + sum_i v_i W_dec,i; or latents set to values: x + sum_i (v_i - f_i) W_dec,i.

    Args:
      values: {latent: value}, in units of the latent's own activations (`dictionary.values` gives them).
      clamp: whether latents are set to values, whatever they are.
      error: whether the dictionary's error stays; False: of its reconstruction. All else as for `splice`.

    Yields, raises: as `splice`.
    """
    numbers, targets = tuple(int(i) for i in values), tuple(float(v) for v in values.values())
    if bad := [f"{i}: {v}" for i, v in zip(numbers, targets, strict=True) if not math.isfinite(v)]:
        raise InputError(f"steer(values={{{', '.join(bad)}}}): expected finite numbers")
    changes = {"latents": numbers, "targets": targets, "raised": not clamp, "replaced": not error}
    with _edited(model, edits_of(dictionary, site, **changes), Where(positions, special)):
        yield model


@contextmanager
def read(model: Any, *sites: str | Dictionary) -> Iterator[dict[str, Any]]:
    """What stands at sites, as hooks around this one leave it.

    Args:
      sites: names or paths as for `splice`, or dictionaries, whose sites they read and write.

    Yields:
      {site: activations [B, T, d] of the last pass}, which fills as the model runs; not under jit.
    """
    names: list[str] = []
    for site in sites:
        found = [site] if isinstance(site, str) else [n for e in edits_of(site, None) for n in (*e.reads, e.writes)]
        names += found
    seen: dict[str, Any] = {}
    with _library(model).reading(model, tuple(dict.fromkeys(names)), seen):
        yield seen


def _edited(model: Any, edits: list[Edit], where: Where) -> Any:
    return _library(model).edited(model, edits, where)


def _library(model: Any) -> Any:
    """The module that hooks such a model."""
    names = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(model).__mro__}
    if "torch.nn.modules.module.Module" in names:
        from jaxsae.hooks import torch_model

        return torch_model
    from flax import nnx

    if isinstance(model, nnx.Module):
        from jaxsae.hooks import nnx_model

        return nnx_model
    raise InputError(f"hooks: {type(model).__name__} is neither a torch module nor a flax nnx module.")
