"""Hugging Face language models in torch: their activations read, and replaced, where they have names."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np

from jaxsae.errors import InputError
from jaxsae.lm import load_torch, sites, trial
from jaxsae.lm.checkpoint import Checkpoint, find
from jaxsae.lm.options import HFConfig
from jaxsae.lm.sites import Place
from jaxsae.lm.stand_in import Pass, StandIn
from jaxsae.lm.torch_hooks import hooked


class _Enough(Exception):
    """Ends a forward pass once every site was read."""


class TorchLM:
    """A model with its weights, in evaluation mode.

    Attributes:
      name: as it was asked for, a directory from the root.
      kind: "causal" predicts the next token, "masked" tokens that were masked.
      layers, vocabulary: how many there are.
      context: the most positions that it takes, None where there is no limit.
    """

    def __init__(self, checkpoint: Checkpoint):
        """Loads the model; raises `InputError` as `load_torch.load` does."""
        self._take(load_torch.load(checkpoint), checkpoint.name, checkpoint.kind, checkpoint.context)
        self.checkpoint = checkpoint

    @classmethod
    def around(cls, model: Any) -> "TorchLM":
        """One of transformers' models that is in memory already, as it is."""
        lm, takes = cls.__new__(cls), inspect.signature(model.forward).parameters
        name = getattr(model.config, "_name_or_path", "") or type(model).__name__
        lm._take(model, name, "causal" if "use_cache" in takes else "masked", None)
        return lm

    def _take(self, model: Any, name: str, kind: str, context: int | None) -> None:
        self.model, self.name, self.kind, self.context = model, name, kind, context
        self._found: dict[str, Place] = {}
        self._widths: dict[str, int] = {}
        self.torch = load_torch.torch()
        self.device = next(self.model.parameters()).device
        text = self.model.config.get_text_config()
        self.vocabulary = self.model.get_input_embeddings().weight.shape[0]
        self.layers = getattr(text, "num_hidden_layers", 0)
        self.dtype = str(self.model.dtype).removeprefix("torch.")

    @classmethod
    def of(cls, name: str, config: HFConfig) -> "TorchLM":
        """The model of a hub id or a directory; raises `InputError` as `checkpoint.find` and `load_torch.load`."""
        return cls(find(name, config))

    def widths(self, names: tuple[str, ...], flag: str = "sites") -> dict[str, int]:
        """d_model of each site; `flag` is what named them.

        Raises:
          InputError: no such site, or one that `trial.check` refuses.
        """
        self.places(names, flag)
        return {site: self._widths[site] for site in names}

    def watch(
        self, tokens: np.ndarray, places: Mapping[Any, Place], silent: Sequence[str] = ()
    ) -> dict[Any, list[Any]]:
        """{key: what stood at its place, each time that its module was run} of one whole pass over tokens [B, T].

        Modules whose paths are in `silent` give zeros in that pass.
        """
        seen: dict[Any, list[Any]] = {key: [] for key in places}

        def keep(key: Any, x: Any) -> None:
            seen[key].append(x.clone() if isinstance(x, self.torch.Tensor) else x)  # later layers may write into x

        zero = lambda x: self.torch.zeros_like(x) if isinstance(x, self.torch.Tensor) else None
        with self.torch.inference_mode(), ExitStack() as hooks:
            for path in silent:
                hooks.enter_context(hooked(self.model, Place(path), zero))
            for key, place in places.items():
                hooks.enter_context(hooked(self.model, place, lambda x, key=key: keep(key, x)))
            self.model(**self.inputs(tokens))
        return seen

    def read(self, tokens: np.ndarray, kept: np.ndarray, names: tuple[str, ...], dtype: str) -> dict[str, np.ndarray]:
        """Activations of some sites; the pass ends after the last of them.

        Args:
          tokens: int32 [B, T], -1 where there is none.
          kept: bool [B, T], the positions to return.
          dtype: of what is returned: float32, bfloat16 or float16.

        Returns:
          {site: [positions kept, d_model]}.

        Raises:
          InputError: Inf or NaN, as where float16 overflows, naming site and layer.
        """
        index = self.torch.as_tensor(np.flatnonzero(kept), device=self.device)
        out: dict[str, np.ndarray] = {}

        def take(site: str, x: Any) -> None:
            rows = x.reshape(-1, x.shape[-1]).index_select(0, index)  # a copy: later layers may write into x
            narrow = rows.to(getattr(self.torch, dtype))
            if not self.torch.isfinite(narrow).all():
                self._refuse_overflow(site, rows)
            out[site] = _to_numpy(narrow, self.torch)

        self._run(tokens, self.places(names), take)
        return out

    def logits(
        self,
        tokens: np.ndarray,
        kept: np.ndarray,
        replace: Mapping[str, StandIn] | None = None,
    ) -> Any:
        """A torch tensor [B, T, vocabulary] of logits, as the model has them or with activations replaced.

        Args:
          tokens: int32 [B, T], -1 where there is none.
          kept: bool [B, T], the positions that are replaced.
          replace: site -> what is to stand there. Activations are as they come in the same pass: what is replaced earlier
            has its effect.

        Raises:
          InputError: a stand-in reads what comes after the site that it stands at.
        """
        index = self.torch.as_tensor(np.flatnonzero(kept), device=self.device)

        def put(x: Any, rows: np.ndarray) -> Any:
            new = self.torch.tensor(rows, device=self.device, dtype=x.dtype)
            return x.reshape(-1, x.shape[-1]).index_copy(0, index, new).reshape(x.shape)

        rows = lambda x: _to_numpy(x.reshape(-1, x.shape[-1]).index_select(0, index).float(), self.torch)
        hooks = Pass(replace or {}, rows, put).hooks
        places = self.places(tuple(dict.fromkeys(site for site, _ in hooks)), "site")
        with self.torch.inference_mode(), ExitStack() as stack:
            for site, function in hooks:
                stack.enter_context(hooked(self.model, places[site], function))
            return self.model(**self.inputs(tokens)).logits

    def inputs(self, tokens: np.ndarray) -> dict[str, Any]:
        """What the model's forward pass takes; a mask only where something is padded."""
        there = tokens >= 0
        ids = self.torch.as_tensor(np.where(there, tokens, 0).astype(np.int64), device=self.device)
        out: dict[str, Any] = {"input_ids": ids}
        if not there.all():
            out["attention_mask"] = self.torch.as_tensor(there.astype(np.int64), device=self.device)
        if self.kind == "causal":
            out["use_cache"] = False
        return out

    def places(self, names: tuple[str, ...], flag: str = "sites") -> dict[str, Place]:
        """Where sites are, each once it has passed its trial."""
        new = {name: sites.find(self.model, name, flag) for name in names if name not in self._found}
        if new:
            watch = partial(self.watch, trial.tokens(self.vocabulary))
            self._widths |= trial.check(self.model, self.name, watch, new, flag)
            self._found |= new
        return {name: self._found[name] for name in names}

    def _run(self, tokens: np.ndarray, places: Mapping[str, Place], take: Callable[[str, Any], None]) -> None:
        """One pass that hands each site's tensor to `take` and stops after the last."""
        waiting = set(places)

        def tap(site: str, x: Any) -> None:
            if site in waiting:
                take(site, x)
                waiting.discard(site)
            if not waiting:
                raise _Enough

        with self.torch.inference_mode(), ExitStack() as hooks:
            for site, place in places.items():
                hooks.enter_context(hooked(self.model, place, lambda x, s=site: tap(s, x)))
            hooks.enter_context(suppress(_Enough))
            self.model(**self.inputs(tokens))

    def _refuse_overflow(self, site: str, rows: Any) -> None:
        layer = re.search(r"\d+", site)
        where = f"Site {site}" + (f" (layer {layer.group()} of {self.layers})" if layer else "")
        if self.torch.isfinite(rows).all():
            largest = float(rows.abs().max())
            raise InputError(
                f"{where}: values up to {largest:.3g} overflow the store's float16, which ends at 65,504. "
                "Take --dtype=bfloat16 or --dtype=float32 (and another --store, where shards of this one are complete)."
            )
        if self.dtype != "float16":
            raise InputError(
                f"{where}: Inf or NaN in the model's {self.dtype} activations. See that the weights of {self.name} are whole."
            )
        raise InputError(
            f"{where}: Inf or NaN in the model's {self.dtype} activations. Let the model compute in another type: "
            "--model_dtype=bfloat16 or --model_dtype=float32 (and another --store, where shards of this one are complete)."
        )


def _to_numpy(x: Any, torch: Any) -> np.ndarray:
    """A tensor's values as a NumPy array of the same dtype."""
    x = x.contiguous().cpu()
    if x.dtype is torch.bfloat16:
        return x.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return x.numpy()
