"""torch's file of tensors, filled in while ranges of latents come in: a zip archive whose storages are not compressed."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np

from jaxsae.errors import InputError
from jaxsae.exchange.stream import Layout, TensorFile

_LOCAL, _CENTRAL = 30, 46  # bytes of an entry's two headers, before its name
_CRC, _LENGTHS = 16, 28  # in the central one: where its sum is, and the lengths of name, extra field and comment
_BLOCK = 16 << 20


def import_torch() -> ModuleType:
    """torch.

    Raises:
      InputError: it is not installed.
    """
    try:
        import torch
    except ImportError:
        raise InputError(
            "--format=dictionary_learning needs torch to read and write ae.pt: pip install 'jaxsae[interop]'"
        ) from None
    return torch


class TorchFile(TensorFile):
    """A file that `torch.load(path, weights_only=True)` opens as a flat dict of tensors.

    torch lays it out and leaves room for what the tensors hold; where that is, and the sums of it, the archive says.

    Args:
      small: further tensors, whole.
    """

    def __init__(self, path: Path, layout: Layout, small: Mapping[str, np.ndarray]):
        super().__init__(path, dict(layout) | {name: (array.shape, array.dtype) for name, array in small.items()})
        for name, array in small.items():
            self.put(name, array, "")

    def _lay_out(self) -> dict[str, int]:
        torch = import_torch()
        # Memory that is never touched is never taken.
        tensors = {
            name: torch.empty(shape, dtype=getattr(torch, kind.name)) for name, (shape, kind) in self._layout.items()
        }
        with torch.serialization.skip_data():
            torch.save(tensors, self._path)
        starts = {}
        with zipfile.ZipFile(self._path) as archive, self._path.open("rb") as file:
            folder = archive.namelist()[0].split("/")[0]
            for number, name in enumerate(self._layout):
                entry = archive.getinfo(f"{folder}/data/{number}")
                file.seek(entry.header_offset + _LOCAL - 4)
                lengths = np.frombuffer(file.read(4), "<u2")
                starts[name] = entry.header_offset + _LOCAL + int(lengths.sum())
        return starts

    def _finish(self) -> None:
        """Puts the sums of what was filled in where the archive has them: behind each storage, and in its directory."""
        with zipfile.ZipFile(self._path) as archive:
            place, entries = archive.start_dir, archive.infolist()
        starts = set(self._starts.values())
        with self._path.open("r+b") as file:
            for entry in entries:
                file.seek(place + _LENGTHS)
                lengths = np.frombuffer(file.read(6), "<u2")
                file.seek(entry.header_offset + _LOCAL - 4)
                start = entry.header_offset + _LOCAL + int(np.frombuffer(file.read(4), "<u2").sum())
                if start in starts:
                    crc = _crc_of(file, start, entry.file_size).to_bytes(4, "little")
                    for where in (start + entry.file_size + 4, place + _CRC):  # after the mark of a data descriptor
                        file.seek(where)
                        file.write(crc)
                place += _CENTRAL + int(lengths.sum())


def _crc_of(file, start: int, size: int) -> int:
    crc = 0
    file.seek(start)
    while size:
        block = file.read(min(size, _BLOCK))
        crc, size = zlib.crc32(block, crc), size - len(block)
    return crc
