"""Reading and writing the files that formats are made of; what is wrong with one is said by name."""

import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from jaxsae.dictionary import MethodConfig
from jaxsae.errors import InputError


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
      InputError: no such file, not JSON, not an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"--input: {path} is missing. {listing(path.parent)}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"--input: {path} cannot be read as JSON ({error})") from None
    if not isinstance(value, dict):
        raise InputError(f"--input: {path} holds a {type(value).__name__}, not an object of settings")
    return value


def read_safetensors(path: Path, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file, those of `names` alone where given, as float32 where they are floating point.

    Raises:
      InputError: no such file, not a safetensors file.
    """
    if not path.is_file():
        raise InputError(f"--input: {path} is missing. {listing(path.parent)}")
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in names or file.keys()}
    except (SafetensorError, OSError) as error:
        raise InputError(f"--input: {path} is damaged or not a safetensors file ({error})") from None
    return {name: as_float32(tensor) for name, tensor in tensors.items()}


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a NumPy .npz file, float32 where they are floating point; nothing in it is run.

    Raises:
      InputError: no such file, not an .npz file, one that holds Python objects.
    """
    if not path.is_file():
        raise InputError(f"--input: {path} is missing. {listing(path.parent)}")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: as_float32(file[name]) for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        if "allow_pickle" in str(error) or "pickled" in str(error):
            raise InputError(
                f"--input: {path} holds Python objects, which could run code; it is not read. "
                "Save plain arrays: numpy.savez(path, **arrays)."
            ) from None
        raise InputError(f"--input: {path} is damaged or not an .npz file ({str(error)[:120]})") from None


def as_float32(tensor: np.ndarray) -> np.ndarray:
    """float32 for float16, bfloat16 and float64; integers as they are."""
    return tensor if np.issubdtype(tensor.dtype, np.integer) else tensor.astype(np.float32)


def safetensors_shapes(path: Path) -> dict[str, tuple[list[int], str]]:
    """Tensor -> shape and dtype, from the header alone."""
    try:
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}
            return {name: (s.get_shape(), s.get_dtype()) for name, s in slices.items()}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is damaged or not a safetensors file ({error})") from None


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes `tensors`; safetensors takes a transposed view for what it is not, so they are copied in order."""
    path.touch()
    mode = path.stat().st_mode  # safetensors would leave a file that only its owner reads
    save_file({name: np.ascontiguousarray(t) for name, t in tensors.items()}, path)
    path.chmod(mode)


def check_shapes(tensors: Mapping[str, np.ndarray], shapes: Mapping[str, str], path: Path) -> dict[str, int]:
    """Checks that tensors are there and agree on their dimensions.

    Args:
      tensors: what a file holds. shapes: tensor -> its dimensions as letters, such as {"W_enc": "dn"}.

    Returns:
      {letter: size}.

    Raises:
      InputError: a tensor is missing or does not fit the others.
    """
    sizes: dict[str, int] = {}
    for name, letters in shapes.items():
        if name not in tensors:
            raise InputError(f"--input: {path} has no tensor {name!r}; it has: {', '.join(sorted(tensors)) or 'none'}")
        shape = tensors[name].shape
        expected = [sizes.get(letter, letter) for letter in letters]
        if len(shape) != len(letters) or any(sizes.setdefault(c, s) != s for c, s in zip(letters, shape, strict=True)):
            raise InputError(
                f"--input: {path}: tensor {name!r} has shape {list(shape)}, expected [{', '.join(map(str, expected))}]"
            )
        if 0 in shape:
            raise InputError(f"--input: {path}: tensor {name!r} of shape {list(shape)} is empty")
    return sizes


def check_setting(settings: Mapping[str, Any], name: str, expected: Any, path: Path, why: str) -> None:
    """Raises `InputError` where `settings` has `name` and it is not `expected`."""
    if settings.get(name, expected) != expected:
        raise InputError(f"--input: {path}: {name} = {settings[name]!r}, only {expected!r} can be imported: {why}.")


def read_k(settings: Mapping[str, Any], width: int, path: Path) -> int:
    """`k` of a top-k dictionary, checked."""
    k = settings.get("k")
    if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= width:
        raise InputError(
            f"--input: {path}: k = {k!r}, expected a whole number from 1 to {width}, the number of latents"
        )
    return k


def read_l0(target: Any, width: int, path: Path) -> int:
    """`k` of a jumprelu: the L0 that its training aimed at, rounded; jaxsae's default where the settings say none."""
    if target is None:
        return min(MethodConfig.k, width)
    finite = isinstance(target, float) and np.isfinite(target)
    return read_k({"k": max(1, round(target)) if finite else target}, width, path)


def listing(folder: Path) -> str:
    """What is in a folder, in a sentence."""
    if not folder.is_dir():
        return f"There is no directory {folder}."
    names = sorted(p.name for p in folder.iterdir())
    return f"{folder} holds: {', '.join(names[:12]) or 'nothing'}" + (", ..." if len(names) > 12 else ".")
