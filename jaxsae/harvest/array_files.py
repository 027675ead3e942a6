"""Two-dimensional arrays in `.npy` and `.safetensors` files, memory-mapped: rows are read when sliced."""

import json
import math
from pathlib import Path

import ml_dtypes
import numpy as np

from jaxsae.errors import InputError

_SAFETENSORS = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}


def open_array(path: str, tensor: str | None = None) -> np.ndarray:
    """Maps the array of a file into memory, [rows, d_model] of any float type.

    Args:
      path: a `.npy` or `.safetensors` file.
      tensor: which tensor of a safetensors file; needed where it holds several.

    Raises:
      InputError: no such file, another format, not two-dimensional, empty, not floats.
    """
    if not Path(path).is_file():
        raise InputError(
            f"--input={path}: no such file. Name a .npy or .safetensors file of activations [rows, d_model]"
        )
    if Path(path).suffix == ".npy":
        array = _open_npy(path)
    elif Path(path).suffix == ".safetensors":
        array = _open_safetensors(path, tensor)
    else:
        raise InputError(f"--input={path}: expected a .npy or a .safetensors file")
    if array.ndim != 2:
        raise InputError(f"--input={path}: shape {array.shape}; reshape it to two dimensions, [rows, d_model]")
    if array.size == 0:
        raise InputError(f"--input={path}: shape {array.shape} holds nothing; leave it out")
    return array


def _open_npy(path: str) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        reason = str(error) if isinstance(error, OSError) or _is_npy(path) else "it does not begin as one"
        raise InputError(f"--input={path}: not a .npy file of plain numbers ({reason}); save it with np.save") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        kind = getattr(array, "dtype", type(array).__name__)
        raise InputError(f"--input={path}: holds {kind}, not floats; save float32, or bfloat16 as .safetensors")
    return array


def _is_npy(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(6) == b"\x93NUMPY"


def _open_safetensors(path: str, tensor: str | None) -> np.ndarray:
    """Maps one tensor from the header's offsets; the library's NumPy reader copies, and lacks bfloat16."""
    header, offset = _read_header(path)
    names = ", ".join(sorted(header))
    if not header:
        raise InputError(f"--input={path}: holds no tensor; leave it out")
    if tensor is None and len(header) != 1:
        raise InputError(f"--input={path}: holds {len(header)} tensors; name one with --tensor. There are: {names}")
    name = next(iter(header)) if tensor is None else tensor
    if name not in header:
        raise InputError(f"--tensor={name}: not in {path}. There are: {names}")
    entry = header[name]
    if entry["dtype"] not in _SAFETENSORS:
        raise InputError(
            f"--input={path}: tensor {name} holds {entry['dtype']}, not floats ({', '.join(_SAFETENSORS)})"
        )
    dtype, shape, (begin, end) = _SAFETENSORS[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
    size = Path(path).stat().st_size
    if end - begin != math.prod(shape) * dtype.itemsize or offset + end > size:
        raise InputError(f"--input={path}: the file is cut short: {name} {shape} does not fit in its {size} bytes")
    if end == begin:
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", offset + begin, shape)


def _read_header(path: str) -> tuple[dict[str, dict], int]:
    """The entries of a safetensors file, and where its data begin."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            if not 2 <= length <= Path(path).stat().st_size - 8:
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            if any({"dtype", "shape", "data_offsets"} - set(entry) for entry in header.values()):
                raise ValueError("entries without dtype, shape or offsets")
        except (ValueError, AttributeError, TypeError) as error:
            raise InputError(f"--input={path}: not a safetensors file ({error})") from None
    return header, 8 + length
