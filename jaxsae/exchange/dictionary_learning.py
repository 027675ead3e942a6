"""dictionary_learning (saprmarks): `ae.pt`, a flat dict of tensors, and `config.json`.

`topk` and its kin are its AutoEncoderTopK, `batchtopk` its BatchTopKSAE and `matryoshka` its MatryoshkaBatchTopKSAE, both
with the same threshold, both kinds of `jumprelu` its JumpReluAutoEncoder, `gated` and `rescaled` its GatedAutoEncoder.
`relu` is its AutoEncoder, which subtracts b_dec from the input and whose loader brings decoder rows to length 1: both are
done here, so its latents are ||W_dec,i|| z_i and its reconstructions the same.
"""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType
from typing import Any

import numpy as np

from jaxsae.dictionary import Dictionary, MethodConfig, make_method
from jaxsae.errors import InputError
from jaxsae.exchange import provenance, stream, weights
from jaxsae.exchange.files import as_float32, check_setting, check_shapes, read_json, read_k, read_l0
from jaxsae.exchange.holds import name_in
from jaxsae.exchange.ranges import pieces
from jaxsae.exchange.sites import site_of
from jaxsae.exchange.torch_file import TorchFile, import_torch
from jaxsae.exchange.weights import Form
from jaxsae.files import write_json

WEIGHTS, CONFIG = "ae.pt", "config.json"
FILES = frozenset({WEIGHTS, CONFIG})
_LINEAR: Form = {"encoder.weight": ("W_enc", "nd"), "encoder.bias": ("b_enc", "n"), "decoder.weight": ("W_dec", "dn")}
_PLAIN: Form = {
    "W_enc": ("W_enc", "dn"),
    "b_enc": ("b_enc", "n"),
    "W_dec": ("W_dec", "nd"),
    "b_dec": ("b_dec", "d"),
}
FORMS: dict[str, Form] = {  # by class
    "AutoEncoderTopK": _LINEAR | {"b_dec": ("b_dec", "d")},
    "BatchTopKSAE": _LINEAR | {"b_dec": ("b_dec", "d")},
    "MatryoshkaBatchTopKSAE": _PLAIN,
    "JumpReluAutoEncoder": _PLAIN | {"threshold": ("threshold", "n")},
    "GatedAutoEncoder": {
        "encoder.weight": ("W_enc", "nd"),
        "gate_bias": ("b_enc", "n"),
        "r_mag": ("r_mag", "n"),
        "mag_bias": ("b_mag", "n"),
        "decoder.weight": ("W_dec", "dn"),
        "decoder_bias": ("b_dec", "d"),
    },
    "AutoEncoder": _LINEAR | {"bias": ("b_dec", "d")},
    "AutoEncoderNew": _LINEAR | {"decoder.bias": ("b_dec", "d")},
}
METHODS = {
    "AutoEncoderTopK": "topk",
    "BatchTopKSAE": "batchtopk",
    "MatryoshkaBatchTopKSAE": "matryoshka",
    "JumpReluAutoEncoder": "jumprelu",
    "GatedAutoEncoder": "gated",
    "AutoEncoder": "relu",
    "AutoEncoderNew": "relu",
}
WITH_K = ("AutoEncoderTopK", "BatchTopKSAE", "MatryoshkaBatchTopKSAE")
TRAINERS = {
    "AutoEncoderTopK": "TopKTrainer",
    "BatchTopKSAE": "BatchTopKTrainer",
    "MatryoshkaBatchTopKSAE": "MatryoshkaBatchTopKTrainer",
    "JumpReluAutoEncoder": "JumpReluTrainer",
    "GatedAutoEncoder": "GatedSAETrainer",
    "AutoEncoder": "StandardTrainerAprilUpdate",
}
_UNSET = -1.0  # a threshold that was not estimated


def write(dictionary: Dictionary, output: Path, dtype: str = "float32") -> None:
    """Writes `dictionary` into the directory `output`.

    Raises:
      InputError: a method that it has no class for, torch is not installed, weights that are not finite or too large for
        `dtype`.
    """
    name, config = name_in("dictionary_learning", dictionary), dictionary.config
    import_torch()
    change = lambda w: weights.set_pre_bias(
        weights.unit_rows(w, config), now=dictionary.pre_bias, wanted=_subtracts(name)
    )
    small = {}
    if name in WITH_K:
        threshold = dictionary.threshold if config.has_threshold else _UNSET
        small = {"k": np.array(config.k, np.int32), "threshold": np.array(threshold, np.float32)}
    if config.architecture == "matryoshka":
        small["group_sizes"] = np.diff((0, *config.nested_prefixes)).astype(np.int64)
    arrays = (w.arrays for w in pieces(dictionary, change))
    opened = partial(TorchFile, small=small)
    stream.write({output / WEIGHTS: FORMS[name]}, arrays, dictionary.width, dtype, opened)
    write_json(output / CONFIG, _config(dictionary, name))


def snippet(output: Path) -> str:
    """Python that loads the export."""
    load = f'sae, config = load_dictionary({json.dumps(str(output))}, device="cpu")'
    return f"from dictionary_learning.utils import load_dictionary\n{load}\nx_hat = sae.decode(sae.encode(x))"


def read(input: Path) -> Dictionary:
    """Reads a directory that `write` or dictionary_learning saved; latents are those its own loader gives.

    Raises:
      InputError: torch is not installed, files or tensors missing or misshapen, a class that is not in `FORMS`,
        a threshold that is negative or not finite, as one that was never estimated, an ae.pt that holds more than tensors.
    """
    path = input / CONFIG
    settings = read_json(path)
    trainer = settings.get("trainer") if isinstance(settings.get("trainer"), Mapping) else {}
    name = trainer.get("dict_class")
    if name not in FORMS:
        raise InputError(f"--input: {path}: trainer.dict_class = {name!r}; jaxsae reads {', '.join(FORMS)}.")
    tensors = _read_tensors(input / WEIGHTS)
    w = weights.of_tensors(tensors, FORMS[name], input / WEIGHTS)
    for setting, size in (("activation_dim", w.d_model), ("dict_size", w.width)):
        check_setting(trainer, setting, size, path, f"{WEIGHTS} says so")
    config = MethodConfig(
        width=w.width, architecture=METHODS[name], **_switches(name, trainer, tensors, w.width, input)
    )
    if "threshold" in w.own:
        w = weights.behind_relu(w, input / WEIGHTS)
    if name == "AutoEncoder":
        w = weights.unit_norm(w)
    w = weights.set_pre_bias(w, now=_subtracts(name), wanted=make_method(config).pre_bias)
    threshold = _threshold(tensors, input / WEIGHTS) if config.has_threshold else 0.0
    return weights.to_dictionary(w, config, _metadata(settings, trainer), str(input), threshold)


def _subtracts(name: str) -> bool:
    """Whether a class subtracts b_dec from the input."""
    return name not in ("JumpReluAutoEncoder", "AutoEncoderNew")


def is_here(path: Path) -> bool:
    """Whether `path` is a directory of this format."""
    return all((path / name).is_file() for name in FILES)


def _read_tensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of `ae.pt`; nothing in it is run."""
    torch = import_torch()
    if not path.is_file():
        raise InputError(f"--input: {path} is missing.")
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:
        raise InputError(
            f"--input: {path} holds Python objects besides tensors, which could run code; it is not read. "
            "Save it as a flat dict of tensors: torch.save(sae.state_dict(), path)."
        ) from None
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise InputError(f"--input: {path} is damaged or not a torch file ({str(error)[:120]})") from None
    if not isinstance(tensors, dict) or not all(isinstance(t, torch.Tensor) for t in tensors.values()):
        raise InputError(f"--input: {path} must hold a flat dict of tensors: torch.save(sae.state_dict(), path).")
    return {name: _as_array(tensor, torch) for name, tensor in tensors.items()}


def _as_array(tensor: Any, torch: ModuleType) -> np.ndarray:
    tensor = tensor.detach()
    return as_float32((tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy())


def _switches(
    name: str, trainer: Mapping[str, Any], tensors: Mapping[str, np.ndarray], width: int, input: Path
) -> dict[str, Any]:
    """What the files say of the switches of jaxsae's training."""
    found: dict[str, Any] = {}
    if name in WITH_K:
        found["k"] = _k(trainer, tensors, width, input)
    if name == "MatryoshkaBatchTopKSAE":
        found["prefixes"] = _prefixes(tensors, width, input / WEIGHTS)
    if METHODS[name] in ("gated", "relu"):
        found["target_l0"] = 0.0  # which no file says
    if name == "JumpReluAutoEncoder":
        found["k"] = read_l0(trainer.get("target_l0"), width, input / CONFIG)
    return found


def _k(trainer: Mapping[str, Any], tensors: Mapping[str, np.ndarray], width: int, input: Path) -> int:
    """`k` of the settings, which must be that of the weights where these have one."""
    k = read_k(trainer, width, input / CONFIG)
    if "k" in tensors and int(tensors["k"]) != k:
        raise InputError(f"--input: {input / CONFIG}: trainer.k = {k}, but {WEIGHTS} says {int(tensors['k'])}.")
    return k


def _prefixes(tensors: Mapping[str, np.ndarray], width: int, path: Path) -> tuple[int, ...]:
    """Numbers of first latents that reconstruct by themselves, from the sizes of the groups that they add."""
    check_shapes(tensors, {"group_sizes": "g"}, path)
    sizes = tensors["group_sizes"]
    if not np.issubdtype(sizes.dtype, np.integer) or (sizes < 1).any() or sizes.sum() != width:
        wanted = f"expected whole numbers from 1 on whose sum is {width}, the number of latents"
        raise InputError(f"--input: {path}: group_sizes = {sizes.tolist()}, {wanted}.")
    return tuple(np.cumsum(sizes).tolist())


def _threshold(tensors: Mapping[str, np.ndarray], path: Path) -> float:
    """`threshold` of a class that has one; without it its own loader would keep every positive latent."""
    check_shapes(tensors, {"threshold": ""}, path)
    threshold = float(tensors["threshold"])
    if not 0 <= threshold < np.inf:
        raise InputError(
            f"--input: {path}: threshold = {threshold:g}, expected 0 or more: it was never estimated or the training "
            "diverged. dictionary_learning estimates it after threshold_start_step; train past that step."
        )
    return threshold


def _config(dictionary: Dictionary, class_name: str) -> dict[str, Any]:
    metadata = dictionary.metadata
    trainer = {
        "trainer_class": TRAINERS[class_name],  # by which SAEBench chooses its reader
        "dict_class": class_name,
        "activation_dim": dictionary.d_model,
        "dict_size": dictionary.width,
        "layer": provenance.layer(metadata),
        "lm_name": provenance.model_name(metadata),
        "submodule_name": provenance.site_name(metadata),
    }
    config = dictionary.config
    if class_name in WITH_K:
        trainer["k"] = config.k
    if config.architecture == "matryoshka":
        trainer["group_sizes"] = np.diff((0, *config.nested_prefixes)).tolist()
    if class_name == "JumpReluAutoEncoder":
        trainer["target_l0"] = config.l0_target or None
    buffer = {"d_submodule": dictionary.d_model, "ctx_len": provenance.context_size(metadata)}
    return {"trainer": trainer, "buffer": buffer, "jaxsae": provenance.own_record(metadata)}


def _metadata(settings: Mapping[str, Any], trainer: Mapping[str, Any]) -> dict[str, Any]:
    buffer = settings.get("buffer") if isinstance(settings.get("buffer"), Mapping) else {}
    site = trainer.get("submodule_name")
    if site is None and "layer" in trainer:
        site = f"layer.{trainer['layer']}"
    found = {"model": trainer.get("lm_name"), "site": site_of(site), "context": buffer.get("ctx_len")}
    return provenance.imported(settings, "dictionary_learning", **found)
