"""Loads a Hugging Face model in torch: no code but the library's unless a flag allows it."""

import os
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxsae.errors import InputError
from jaxsae.lm import libraries
from jaxsae.lm.checkpoint import Checkpoint, common, explained


def torch() -> ModuleType:
    """The library."""
    return libraries.import_torch()


def load(checkpoint: Checkpoint) -> Any:
    """The model with its weights, in evaluation mode.

    Raises:
      InputError: the weights are damaged or incomplete, or cannot be had.
    """
    transformers, name, options = libraries.import_transformers(), checkpoint.name, checkpoint.options
    dtype = options.model_dtype if options.model_dtype == "auto" else getattr(torch(), options.model_dtype)
    causal = checkpoint.kind == "causal"
    auto = transformers.AutoModelForCausalLM if causal else transformers.AutoModelForMaskedLM
    # The library would have the hub convert pickles, and load what nobody has named.
    os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"
    try:
        if not Path(name).is_dir() and not checkpoint.tried:  # a download shows how far it is
            transformers.utils.logging.enable_progress_bar()
        model, info = auto.from_pretrained(
            name,
            config=checkpoint.config,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            **common(options),
        )
    except Exception as error:
        raise InputError(explained(name, error, checkpoint.tried)) from None
    finally:
        transformers.utils.logging.disable_progress_bar()
    if missing := sorted(info["missing_keys"]):
        raise InputError(f"--model={name}: its files lack weights, {missing[0]} among {len(missing)}. Get them whole.")
    return model.eval().requires_grad_(False).to(check_device(options.device))


def check_device(name: str) -> str:
    """The device that `--device` names; raises `InputError` where there is none such."""
    library = torch()
    if name == "auto":
        return "cuda" if library.cuda.is_available() else "cpu"
    try:
        library.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device={name}: cannot be used ({str(error).splitlines()[0]}). Leave it out.") from None
    return name
