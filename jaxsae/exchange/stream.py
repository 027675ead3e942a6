"""Files of tensors that are filled in while ranges of latents come in; safetensors' own writer takes whole tensors alone.

A safetensors file is the length of a header in 8 bytes, the header in JSON, and each tensor's bytes in order, so where a row
goes is known before any is there. A tensor that is the transpose of ours is filled in a column of the range at a time.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import ml_dtypes
import numpy as np

from jaxsae.errors import InputError
from jaxsae.exchange.weights import Form, not_finite

DtypeName = Literal["float32", "bfloat16", "float16"]
DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16), "float16": np.dtype(np.float16)}
Layout = Mapping[str, tuple[tuple[int, ...], np.dtype]]  # tensor -> its shape and type
_IN_HEADER = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}


class TensorFile:
    """A safetensors file, filled in row by row of latents; of float32 tensors the bytes that safetensors' own writer gives.

    Args:
      layout: its tensors.
    """

    def __init__(self, path: Path, layout: Layout):
        self._path, self._layout = path, layout
        self._filled = dict.fromkeys(layout, 0)
        self._starts = self._lay_out()
        self._file = path.open("r+b")

    def __enter__(self) -> "TensorFile":
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._file.close()
        if kind is None:
            self._finish()

    def _lay_out(self) -> dict[str, int]:
        """Makes the file with nothing in its tensors; tensor -> where its bytes begin."""
        names = sorted(self._layout, key=lambda name: (-self._layout[name][1].itemsize, name))
        header, end = {}, 0
        for name in names:
            (shape, dtype), start = self._layout[name], end
            end += math.prod(shape) * dtype.itemsize
            header[name] = {"dtype": _IN_HEADER[dtype.name], "shape": list(shape), "data_offsets": [start, end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with self._path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + end)
        return {name: 8 + len(text) + header[name]["data_offsets"][0] for name in names}

    def _finish(self) -> None:
        """What is left to do when every tensor is full."""

    def put(self, name: str, array: np.ndarray, letters: str) -> None:
        """Appends the latents of a range to a tensor; one that is not by latent is written once.

        Args:
          array: latents first. letters: the tensor's dimensions, "n" that of latents: "dn" is the transpose of `array`.
        """
        (shape, dtype), start, filled = self._layout[name], self._starts[name], self._filled[name]
        if "n" not in letters:
            if not filled:
                self._write(start, array)
            self._filled[name] = 1
            return
        if letters == "dn":
            for column, numbers in enumerate(np.ascontiguousarray(array.T)):
                self._write(start + (column * shape[1] + filled) * dtype.itemsize, numbers)
        else:
            self._write(start + filled * math.prod(shape[1:]) * dtype.itemsize, array)
        self._filled[name] = filled + len(array)

    def _write(self, place: int, array: np.ndarray) -> None:
        self._file.seek(place)
        self._file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def write(
    files: Mapping[Path, Form],
    pieces: Iterable[Mapping[str, np.ndarray]],
    width: int,
    dtype: str = "float32",
    opened: Callable[[Path, Layout], TensorFile] = TensorFile,
) -> None:
    """Writes tensors into one file or several, in one pass over the weights.

    Args:
      files: what stands in each. pieces: arrays by name, of ranges of latents that follow one another. width: of a tensor.
      dtype: of matrices. Biases and thresholds, which say what fires and take next to no room, stay float32.
      opened: makes a file.

    Raises:
      InputError: as `pieces`; a matrix has numbers that the type cannot hold.
    """
    kind, lost, open_files = DTYPES[dtype], Counter(), {}
    with ExitStack() as stack:
        for arrays in pieces:
            for path, form in files.items():
                if path not in open_files:
                    open_files[path] = stack.enter_context(opened(path, _layout(form, arrays, width, kind)))
                for theirs, (ours, letters) in form.items():
                    with np.errstate(over="ignore"):  # which is told below
                        array = arrays[ours].astype(_type_of(letters, kind), copy=False)
                    if array.dtype != np.float32:
                        lost[ours] += not_finite({ours: array})[ours]
                    open_files[path].put(theirs, array, letters)
        if found := next((name for name, count in lost.items() if count), None):
            most = f"{float(ml_dtypes.finfo(kind).max):g}"
            raise InputError(
                f"--dtype={dtype}: {lost[found]:,} numbers of {found} are above {most}, the largest that it has. "
                "Take --dtype=bfloat16 or float32."
            )


def _layout(form: Form, arrays: Mapping[str, np.ndarray], width: int, kind: np.dtype) -> Layout:
    """Shapes and types of a file's tensors, of all latents, from a range of them."""
    layout = {}
    for theirs, (ours, letters) in form.items():
        shape = (width, *arrays[ours].shape[1:]) if "n" in letters else arrays[ours].shape
        layout[theirs] = (shape[::-1] if letters == "dn" else shape, _type_of(letters, kind))
    return layout


def _type_of(letters: str, kind: np.dtype) -> np.dtype:
    return kind if len(letters) > 1 else np.dtype(np.float32)
