"""Loads a Hugging Face model: safetensors alone, no code but the library's unless a flag allows it."""

import os
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxsae.errors import InputError
from jaxsae.lm import libraries

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")


def torch() -> ModuleType:
    """The library."""
    return libraries.import_torch()


def absolute(name: str) -> str:
    """A directory from the root, a hub id as it is."""
    return os.path.abspath(name) if os.path.isdir(name) else name


def load(name: str, options: Any) -> tuple[Any, str]:
    """The model, and whether it is "causal" or "masked".

    Args:
      name: a hub id or a directory. options: a `TorchConfig`.

    Raises:
      InputError: it cannot be found, its weights are pickles or incomplete, it brings code, there is no such device.
    """
    transformers = libraries.import_transformers()
    device = _device(options.device)
    local = Path(name).is_dir()
    if not local and (name.startswith(("/", ".", "~")) or name.count("/") > 1):
        raise InputError(f"--model={name}: no such directory.")
    if local:
        _check_directory(Path(name))
    tried = "" if local else libraries.reach_hub()
    common = {"trust_remote_code": options.trust_remote_code}
    common |= {"revision": options.revision} if options.revision else {}
    dtype = options.model_dtype if options.model_dtype == "auto" else getattr(torch(), options.model_dtype)
    try:
        config = transformers.AutoConfig.from_pretrained(name, **common)
        kind = _kind(config, transformers)
        auto = transformers.AutoModelForCausalLM if kind == "causal" else transformers.AutoModelForMaskedLM
        if not local and not tried:  # a download shows how far it is
            transformers.utils.logging.enable_progress_bar()
        model, info = auto.from_pretrained(
            name, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True, **common
        )
    except InputError:
        raise
    except Exception as error:  # the library raises a dozen kinds
        raise InputError(_explained(name, error, tried)) from None
    finally:
        transformers.utils.logging.disable_progress_bar()
    if missing := sorted(info["missing_keys"]):
        raise InputError(f"--model={name}: its files lack weights, {missing[0]} among {len(missing)}. Get them whole.")
    return model.eval().requires_grad_(False).to(device), kind


def _device(name: str) -> str:
    library = torch()
    if name == "auto":
        return "cuda" if library.cuda.is_available() else "cpu"
    try:
        library.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device={name}: cannot be used ({str(error).splitlines()[0]}). Leave it out.") from None
    return name


def _check_directory(path: Path) -> None:
    if not (path / "config.json").is_file():
        raise InputError(f"--model={path}: no config.json in it. Give a directory that `model.save_pretrained` wrote.")
    if any(path.glob("*.safetensors")):
        return
    if pickles := sorted(p.name for pattern in _PICKLES for p in path.glob(pattern)):
        raise InputError(
            f"--model={path}: its weights are {pickles[0]}, which may run code when it is read. Only safetensors are: "
            "load them where you trust them, and model.save_pretrained(DIR) writes safetensors."
        )
    raise InputError(f"--model={path}: no weights (*.safetensors) in it.")


def _kind(config: Any, transformers: ModuleType) -> str:
    """Whether a checkpoint predicts the next token or masked ones."""
    masked = transformers.models.auto.modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    causal = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    names = " ".join(config.architectures or ())
    if "CausalLM" in names or "LMHead" in names:
        return "causal"
    if "MaskedLM" in names or (config.model_type in masked and not getattr(config, "is_decoder", False)):
        return "masked"
    if config.model_type in causal or getattr(config, "auto_map", None):
        return "causal"
    raise InputError(f"--model: {config.model_type} is no causal and no masked language model.")


def _explained(name: str, error: Exception, tried: str) -> str:
    text = str(error).strip()
    if "trust_remote_code" in text:
        return (
            f"--model={name}: comes with Python code of its own. If you have read it and trust it, add "
            "--trust_remote_code; otherwise take a model that transformers knows."
        )
    if "safetensors" in text and "does not appear" in text:
        return f"--model={name}: has no safetensors, and other formats may run code when read. Ask for a converted one."
    reason = text.splitlines()[0] if text else type(error).__name__
    tried = f" Tried: no directory of that name here; {tried}." if tried else ""
    return (
        f"--model={name}: no model could be loaded ({reason}).{tried} Give a directory with config.json and "
        "*.safetensors, such as `huggingface-cli download` or model.save_pretrained(DIR) leaves."
    )
