"""A trial pass: that a site is one place, and that `attn_out` and `mlp_out` are what a block adds to the stream.

Where modules stand is a guess by their names. Families differ: a module may add the stream itself, a norm or a
multiplier may follow it. So the names are believed after a pass over a few tokens has shown the sums.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxsae.errors import InputError
from jaxsae.lm import sites
from jaxsae.lm.sites import Place

SHAPE = 2, 3  # sequences, tokens
ROUNDINGS = 4  # of the largest term of a sum, entry by entry
ADDED = ("attn_out", "mlp_out")


def check(model: Any, name: str, watch: Callable[..., Any], places: Mapping[str, Place], flag: str) -> dict[str, int]:
    """d_model of each site.

    Args:
      model: the torch module. name: it, in messages.
      watch: `TorchLM.watch` of `tokens`.
      places: where the sites are, by their names.
      flag: that named them, for messages.

    Raises:
      InputError: a site that no forward pass reaches or that one reaches several times, whose values are not
        [B, T, d_model], or that is named after what a block adds and is not that.
    """
    blocks = {layer: _Block.of(model, layer) for layer in map(_layer, places) if layer is not None}
    taps = dict(places)
    for block in blocks.values():
        taps |= block.taps
    seen = watch(taps)
    for site, place in places.items():
        _check_runs(name, site, place, seen[site], flag)
    for site in places:
        if (layer := _layer(site)) is not None and (reason := blocks[layer].why_not(site, seen, watch)):
            raise InputError(
                f"--{flag}={site}: {reason}. Take resid_pre.{layer} or resid_post.{layer}, or a module's path, "
                f"such as {places[site].path}, which is read as it is."
            )
    return {site: seen[site][0].shape[-1] for site in places}


def tokens(vocabulary: int) -> np.ndarray:
    """int32 [2, 3], as different as they can be."""
    return np.linspace(vocabulary * 0.2, vocabulary * 0.9, SHAPE[0] * SHAPE[1]).astype(np.int32).reshape(SHAPE)


def _layer(site: str) -> int | None:
    """The block of a site whose meaning is checked."""
    name, _, layer = site.partition(".")
    return int(layer) if name in (*ADDED, "mlp_in") and layer.isdigit() else None


def _check_runs(model: str, site: str, place: Place, runs: Sequence[Any], flag: str) -> None:
    if not runs:
        raise InputError(f"--{flag}={site}: the forward pass of {model} does not reach that module.")
    if len(runs) > 1:
        raise InputError(
            f"--{flag}={site}: {place.path} is run {len(runs)} times in one forward pass, so its activations are not one "
            "place. Take a module that is run once."
        )
    shape = tuple(getattr(runs[0], "shape", ()))
    if len(shape) != 3 or shape[:2] != SHAPE:
        told = list(shape) or "no tensor"
        raise InputError(
            f"--{flag}={site}: gives {told} for {SHAPE[0]} sequences of {SHAPE[1]} tokens, not [2, 3, d_model]."
        )


@dataclasses.dataclass(frozen=True)
class _Block:
    """A block's norms and parts, the modules right in it; `taps` has what is watched of it, by keys that no site has."""

    layer: int
    taps: dict[Any, Place]
    norms: tuple[str, ...]
    parts: tuple[str, ...]

    @classmethod
    def of(cls, model: Any, layer: int) -> "_Block":
        places = {name: sites.locate(model, f"{name}.{layer}") for name in sites.NAMES}
        taps = {(layer, name): place for name, place in places.items() if place is not None}
        block = places["resid_pre"].path
        paths = [p for p, m in model.get_submodule(block).named_modules() if p and "norm" in type(m).__name__.lower()]
        for path in paths:
            taps |= {(layer, path, side): Place(f"{block}.{path}", side == "in") for side in ("in", "out")}
        if (mlp := places["mlp_in"]) is not None:
            taps[layer, "mlp"] = Place(mlp.path)
        parts = [f"{block}.{name}" for name, _ in model.get_submodule(block).named_children()]
        return cls(layer, taps, tuple(paths), tuple(parts))

    def why_not(self, site: str, seen: Mapping[Any, Sequence[Any]], watch: Callable[..., Any]) -> str | None:
        """Why a site is not what its name says, None where it is; `watch` is `TorchLM.watch` of the trial's tokens."""
        name = site.partition(".")[0]
        x = {key[1:]: runs[0] for key, runs in seen.items() if isinstance(key, tuple) and key[0] == self.layer and runs}
        x = {key: _rows(value) for key, value in x.items() if getattr(value, "ndim", 0) > 1}
        if (pre := x.get(("resid_pre",))) is None or (post := x.get(("resid_post",))) is None:
            return f"block {self.layer} has no stream to compare it with"
        if name == "mlp_in":
            told = f"it is neither what a norm gives nor what the module that gives mlp_out.{self.layer} reads"
            return None if self._feeds(x) else told
        holds = self._mlp_adds(x) if name == "mlp_out" else self._attention_adds(x, watch)
        return None if holds else self._not_the_sum(x, pre, post)

    def _not_the_sum(self, x: Mapping[Any, Any], pre: Any, post: Any) -> str:
        """The sizes of what modules give and of what the block adds, in words."""
        added = [x[n,] for n in ADDED if (n,) in x]
        rms = lambda t: float(t.double().square().mean().sqrt())
        total = sum(t.double() for t in added) if added and all(t.shape == post.shape for t in added) else None
        told = "of another shape" if total is None else f"root mean square {rms(total):.4g}"
        change = f"{rms(post.double() - pre.double()):.4g}" if post.shape == pre.shape else "of another shape"
        paths = " and ".join(self.taps[self.layer, n].path for n in ADDED if (self.layer, n) in self.taps)
        return f"{paths} do not give what block {self.layer} adds to its stream ({told}, and the stream changes by {change})"

    def _sums(self, x: Mapping[Any, Any]) -> bool:
        """Whether the block adds what its named modules give, and nothing else, to its stream."""
        return _equal(x["resid_post",], x["resid_pre",], *(x[n,] for n in ADDED if (n,) in x))

    def _attention_adds(self, x: Mapping[Any, Any], watch: Callable[..., Any]) -> bool:
        """Whether `attn_out` is a term of the sum, or of what the second norm reads, before the MLP or after the sum."""
        if ("attn_out",) not in x:
            return False
        if self._sums(x):
            return True
        if not any(_equal(mid, x["resid_pre",], x["attn_out",]) for mid in self._norms(x, "in")):
            return False
        return bool(self._ends(x)) or self._adds_alone(watch)

    def _adds_alone(self, watch: Callable[..., Any]) -> bool:
        """Whether the block adds `attn_out` and nothing else in a pass in which its other parts give zeros.

        Gemma 4's second norm reads stream + attention, and the block multiplies all of it afterwards.
        """
        places = {name: self.taps[self.layer, name] for name in ("resid_pre", "attn_out", "resid_post")}
        silent = [path for path in self.parts if not f"{places['attn_out'].path}.".startswith(f"{path}.")]
        x = {name: _rows(runs[0]) for name, runs in watch(places, silent).items()}
        return _equal(x["resid_post"], x["resid_pre"], x["attn_out"])

    def _mlp_adds(self, x: Mapping[Any, Any]) -> bool:
        """Whether `mlp_out` is a term of the sum: of the stream, of what a norm reads, or of what the last norm reads."""
        if ("mlp_out",) not in x:
            return False
        if self._sums(x):
            return True
        out, post = x["mlp_out",], x["resid_post",]
        if any(_equal(post, mid, out) for mid in self._norms(x, "in")):
            return True
        return any(_equal(end, mid, out) for end in self._ends(x) for mid in self._norms(x, "out"))

    def _ends(self, x: Mapping[Any, Any]) -> list[Any]:
        """What the norms read whose output leaves the block."""
        return [x[p, "in"] for p in self.norms if (p, "in") in x and _same(x.get((p, "out")), x["resid_post",])]

    def _feeds(self, x: Mapping[Any, Any]) -> bool:
        """Whether `mlp_in` is read by what gives `mlp_out`, or is a norm's output where that adds to the stream."""
        mlp_in, out, end = x.get(("mlp_in",)), x.get(("mlp",)), x.get(("mlp_out",))
        if _same(out, end) or any(_same(x.get((p, "in")), out) and _same(x.get((p, "out")), end) for p in self.norms):
            return True
        return self._mlp_adds(x) and any(_same(mlp_in, normed) for normed in self._norms(x, "out"))

    def _norms(self, x: Mapping[Any, Any], side: str) -> list[Any]:
        return [x[path, side] for path in self.norms if (path, side) in x]


def _rows(x: Any) -> Any:
    """[rows, d] of [..., d]: OPT's norms read [B T, d]."""
    return x.reshape(-1, x.shape[-1])


def _same(a: Any, b: Any) -> bool:
    return a is not None and b is not None and a.shape == b.shape and bool((a == b).all())


def _equal(whole: Any, *terms: Any) -> bool:
    """Whether a tensor is the sum of others but for rounding in its own type, entry by entry."""
    if any(term.shape != whole.shape for term in terms):
        return False
    precision = max(float(np.finfo(np.float32).eps), *(_epsilon(t) for t in (whole, *terms)))
    whole, terms = whole.double(), [t.double() for t in terms]
    size = whole.abs() + sum(t.abs() for t in terms)
    return bool(((whole - sum(terms)).abs() <= ROUNDINGS * precision * size).all())


def _epsilon(x: Any) -> float:
    import torch

    return torch.finfo(x.dtype).eps
