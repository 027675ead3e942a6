"""Tensors of safetensors files, mapped into memory: of a large one only the part that is looked at is read."""

import dataclasses
import json
import struct
from collections.abc import Iterable
from operator import index
from pathlib import Path

import ml_dtypes
import numpy as np

from jaxsae.errors import InputError

# Names of the format, of NumPy's types and of torch's, which fingerprints are made of.
_TYPES = {
    "BOOL": (np.bool_, "bool"),
    "U8": (np.uint8, "uint8"),
    "I8": (np.int8, "int8"),
    "I16": (np.int16, "int16"),
    "I32": (np.int32, "int32"),
    "I64": (np.int64, "int64"),
    "F16": (np.float16, "float16"),
    "BF16": (ml_dtypes.bfloat16, "bfloat16"),
    "F32": (np.float32, "float32"),
    "F64": (np.float64, "float64"),
}
FLOATS = ("float16", "bfloat16", "float32", "float64")
_LARGEST_HEADER = 100_000_000  # bytes, as the library has it


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor in a file.

    Attributes:
      path, offset: where its bytes begin. type: by the format's name. shape: of it.
    """

    path: Path
    offset: int
    type: str
    shape: tuple[int, ...]

    @property
    def dtype(self) -> str:
        """The name of its type: float32, bfloat16, ..."""
        return _TYPES[self.type][1]

    @property
    def bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(_TYPES[self.type][0]).itemsize

    def mapped(self) -> np.ndarray:
        """Its values, read where they are looked at."""
        dtype = np.dtype(_TYPES[self.type][0])
        if not self.bytes:
            return np.zeros(self.shape, dtype)
        raw = np.memmap(self.path, np.uint8, "r", self.offset, (self.bytes,))
        return raw.view(dtype).reshape(self.shape)


def tensors_of(files: Iterable[Path], model: str) -> dict[str, Tensor]:
    """{name: tensor} of all files, from their headers alone.

    Args:
      model: whose files they are, for messages.

    Raises:
      InputError: a file that is damaged, cut short or a Git LFS pointer, or of a type that is none of NumPy's.
    """
    found: dict[str, Tensor] = {}
    for path in files:
        found |= _header(Path(path), model)
    return found


def _header(path: Path, model: str) -> dict[str, Tensor]:
    size = path.stat().st_size
    with path.open("rb") as file:
        begin = file.read(8)
        if begin + file.read(16) == b"version https://git-lfs."[:24]:
            raise InputError(
                f"--model={model}: {path.name} is a Git LFS pointer, not the weights. Run `git lfs pull` there."
            )
        file.seek(8)
        length = struct.unpack("<Q", begin)[0] if len(begin) == 8 else 0
        try:
            if not 0 < length <= min(_LARGEST_HEADER, size):
                raise ValueError("no header")
            entries = json.loads(file.read(length))
            found = {}
            for name, of in entries.items():
                if name == "__metadata__":
                    continue
                begin, end = of["data_offsets"]
                found[name] = Tensor(path, 8 + length + begin, str(of["dtype"]), tuple(map(index, of["shape"])))
                known = of["dtype"] in _TYPES
                if begin < 0 or min(found[name].shape, default=0) < 0 or (known and found[name].bytes != end - begin):
                    raise ValueError(f"{name} has other bytes than its shape")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"--model={model}: {path.name} is damaged ({error}). Get it anew.") from None
    for name, tensor in found.items():
        if tensor.type not in _TYPES:
            raise InputError(
                f"--model={model}: {name} in {path.name} is of type {tensor.type}, which is none that can be read. "
                "Take a checkpoint in bfloat16, float16 or float32."
            )
        if tensor.offset + tensor.bytes > size:
            raise InputError(f"--model={model}: {path.name} is cut short: {name} ends behind it. Get it anew.")
    return found
