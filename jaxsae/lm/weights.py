"""Weights of the GPT on disk: safetensors with the shape of the model in the header, and the one in the box."""

import json
from importlib import resources
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from jaxsae.config import from_dict, to_dict
from jaxsae.errors import InputError
from jaxsae.lm.gpt import GPT, GPTConfig, init

SHIPPED = "shipped"
RANDOM = "random"  # as "random:SEED": untrained weights in the shape of the shipped model


def _leaves(model: GPT) -> dict[str, nnx.Param]:
    return {".".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(nnx.state(model, nnx.Param))}


def save(model: GPT, path: Path, notes: dict | None = None) -> None:
    """Writes the model's parameters as float16, with its configuration and `notes` in the header."""
    header = {"config": json.dumps(to_dict(model.config)), "notes": json.dumps(notes or {})}
    arrays = {name: np.asarray(leaf[...], np.float16) for name, leaf in _leaves(model).items()}
    save_file(arrays, path, metadata=header)
    Path(path).chmod(0o644)  # safetensors leaves it to its owner alone


def load(source: str = SHIPPED) -> GPT:
    """A GPT by name: `shipped` (the trained OthelloGPT in the package), `random:SEED`, or a file that `save` wrote.

    Raises:
      InputError: no such file, not a safetensors file, one that `save` did not write, a seed that is no number.
    """
    if source.partition(":")[0] == RANDOM:
        return _random(source)
    path = shipped_path() if source == SHIPPED else Path(source)
    if not path.is_file():
        raise InputError(f"--model={source}: no such file. Give a .safetensors file, {SHIPPED} or {RANDOM}:SEED.")
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}
        model = init(from_dict(GPTConfig, json.loads(header["config"])), seed=0)
    except (SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"--model={source}: not a model written by `jaxsae train_lm` ({error})") from None
    for name, leaf in _leaves(model).items():
        if name not in arrays or arrays[name].shape != leaf.shape:
            raise InputError(f"--model={source}: parameter {name} is missing or not of shape {leaf.shape}")
        leaf[...] = jnp.asarray(arrays[name], jnp.float32)
    return model


def read_notes(source: str) -> dict:
    """The card that `train_lm` left in a model's header."""
    with safe_open(shipped_path() if source == SHIPPED else source, framework="numpy") as file:
        return json.loads((file.metadata() or {}).get("notes", "{}"))


def _random(source: str) -> GPT:
    seed = source.partition(":")[2]
    if not seed.isdigit():
        raise InputError(f"--model={source}: give the seed of the weights as a number, such as {RANDOM}:0")
    return init(GPTConfig(), int(seed))


def shipped_path() -> Path:
    """Where the package keeps the OthelloGPT."""
    return Path(str(resources.files("jaxsae.lm") / "othello_gpt.safetensors"))
