"""A run's dictionary whose latents are read out of the checkpoint a range at a time, for what passes over them once.

`load` holds all of a dictionary, and Orbax takes several times as much while it reads. Here each array by latent is read,
and folded, as far as it is asked for. The checkpoint's chunks bound the memory: Orbax writes at most 2 GB of an array as one.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorstore as ts

from jaxsae.config import from_dict
from jaxsae.dictionary import Dictionary, MethodConfig, Normalization, Params, fold, make_method
from jaxsae.parallel import make_mesh
from jaxsae.training.checkpoint import damaged
from jaxsae.training.layouts import as_used, as_written
from jaxsae.training.run import abstract_dictionary, find_dictionary, threshold_of, widths_of
from jaxsae.training.state import TrainState, trained_params


def load_by_range(run: str | Path) -> Dictionary:
    """The dictionary of a run, as `load` gives it, with `Rows` for arrays by latent.

    Raises:
      InputError: there is no run, or its checkpoint is damaged; what is wrong with a range is raised when it is read, and an
        array whose bits are not those that were saved when its last range is.
    """
    mesh = make_mesh((1, 1), jax.local_devices()[:1])
    directory, step, metadata = find_dictionary(run)
    method = from_dict(MethodConfig, metadata["method"])
    layout, abstract = metadata["format"], {"dictionary": abstract_dictionary(method, metadata, mesh)}
    stored = _opened(directory, step, as_written(abstract, layout), metadata["sums"])
    part = as_used(stored, layout)["dictionary"]
    used = part.pop("params")
    used = part.pop("average", used)
    part = jax.tree.map(lambda array: jnp.asarray(array.whole()), part)
    shared = {name: jnp.asarray(array.whole()) for name, array in used.shared.items()}
    reader = _Reader(used.latent, shared, part, method, metadata)
    params = Params({name: Rows(reader, name) for name in used.latent}, reader.folded_shared())
    unit = (reader.written or reader.read).unit
    averaged = {"average": None} if metadata["ema_decay"] else {}
    threshold = float(threshold_of(part | averaged, metadata, directory / str(step)) / unit)
    return Dictionary(params, method, {**metadata["dictionary"], "step": step}, mesh, threshold)


class Rows:
    """An array by latent, of which `rows[start:stop]` reads and folds those; float32."""

    def __init__(self, reader: "_Reader", name: str):
        self._reader, self._name = reader, name
        self.shape, self.chunk = reader.shape(name), reader.chunk
        self.dtype, self.ndim = np.dtype(np.float32), len(self.shape)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self._reader.range(rows)[self._name]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self[:], dtype)


class _Reader:
    """Reads and folds ranges of latents; keeps the last, since whoever takes one of its arrays takes all."""

    def __init__(
        self,
        latent: Mapping[str, "_Stored"],
        shared: Mapping[str, jax.Array],
        part: Mapping[str, jax.Array],
        config: MethodConfig,
        metadata: Mapping[str, Any],
    ):
        self._latent, self._shared, self._part = latent, shared, part
        self._method, self._ema_decay = make_method(config), metadata["ema_decay"]
        self.read, self.written = Normalization(part["mean"], part["scale"]).sides(widths_of(metadata))
        self.chunk = max(array.chunk for array in latent.values() if len(array.shape) > 1)
        self._last: tuple[slice | None, dict[str, np.ndarray]] = (None, {})

    def __len__(self):
        return self.shape("b_enc")[0]

    def shape(self, name: str) -> tuple[int, ...]:
        return self._latent[name].shape

    def range(self, rows: slice) -> dict[str, np.ndarray]:
        """The arrays of a range, folded. Layers take turns with latents: a range begins with the first of them."""
        rows = slice(*rows.indices(len(self)))
        if self._last[0] != rows:
            self._last = (None, {})  # before the next is read
            read = {name: jnp.asarray(array.read(rows)) for name, array in self._latent.items()}
            folded = self._folded(read).latent
            self._last = (rows, {name: np.asarray(array) for name, array in folded.items()})
        return self._last[1]

    def folded_shared(self) -> dict[str, jax.Array]:
        """The arrays that are not by latent, which no latent has a part in."""
        layers = self._method.config.layers
        none = {name: jnp.zeros((layers, *array.shape[1:])) for name, array in self._latent.items()}
        return self._folded(none).shared

    def _folded(self, latent: Mapping[str, jax.Array]) -> Params:
        params = Params(dict(latent), dict(self._shared))
        if self._ema_decay:
            state = TrainState(params=None, average=params, moments=None, since_fired=None, **self._part)
            params = trained_params(state, self._ema_decay, self._method)
        return fold(params, self.read, self._method.pre_bias, self._method.selection, self.written)


class _Stored:
    """An array of a checkpoint, read from its beginning to its end, while its bits are summed.

    The chunk that is being read stays decoded; a range of it is a copy, so that it goes when the next is read.
    """

    def __init__(self, array: ts.TensorStore, expected: int | None, path: str, directory: Path, step: int):
        self._array, self._expected, self._path, self._where = array, expected, path, (directory, step)
        self.shape = tuple(array.shape)
        self.chunk = array.chunk_layout.read_chunk.shape[0] if self.shape else 1
        self._first, self._decoded = -1, None
        self._sum, self._summed = 0, 0

    def whole(self) -> np.ndarray:
        """All of it."""
        return self.read(slice(0, self.shape[0] if self.shape else 1))

    def read(self, rows: slice) -> np.ndarray:
        """The rows of a range."""
        try:
            found = self._rows(rows.start, rows.stop)
        except Exception as error:
            raise damaged(*self._where, error) from error
        if rows.start == self._summed:
            place = math.prod(self.shape[1:]) * rows.start
            self._sum = (self._sum + _sum_of_bits(found, place)) % 2**32
            self._summed = rows.stop
            if rows.stop == (self.shape[0] if self.shape else 1) and self._sum != self._expected:
                raise damaged(*self._where, ValueError(f"other bits than were saved in {self._path}"))
        return found

    def _rows(self, start: int, stop: int) -> np.ndarray:
        if not self.shape:
            return np.asarray(self._array.read().result())
        found = np.empty((stop - start, *self.shape[1:]), self._array.dtype.numpy_dtype)
        for row in sorted({start, *range(start - start % self.chunk + self.chunk, stop, self.chunk)}):
            first = row - row % self.chunk
            end = min(first + self.chunk, self.shape[0])
            if self._first != first:
                self._decoded = None
                self._first, self._decoded = first, np.asarray(self._array[first:end].read().result())
            end = min(end, stop)
            found[row - start : end - start] = self._decoded[row - first : end - first]
        return found


def _sum_of_bits(found: np.ndarray, place: int) -> int:
    """The part that numbers from `place` on have in an array's sum (`training/sums.py`)."""
    odd = np.arange(found.size, dtype=np.uint32)
    odd += np.uint32(place % 2**32)
    odd *= np.uint32(2)
    odd += np.uint32(1)
    odd *= found.reshape(-1).view(np.uint32)
    return int(odd.sum(dtype=np.uint32))


def _opened(directory: Path, step: int, abstract: Any, sums: Mapping[str, int]) -> Any:
    """The arrays of a checkpoint in the places that `abstract` has for them."""
    paths = jax.tree_util.tree_leaves_with_path(abstract)
    names = [".".join(_key(key) for key in path[1:]) for path, _ in paths]  # the first is the part's
    base = {"driver": "file", "path": f"{(directory / str(step) / 'dictionary').absolute()}/"}

    kvstore = lambda name: {"driver": "ocdbt", "base": base, "path": f"{name}/"}
    try:
        opening = [ts.open({"driver": "zarr3", "kvstore": kvstore(name)}, read=True) for name in names]
        arrays = [future.result() for future in opening]
        for (path, leaf), array in zip(paths, arrays, strict=True):
            if tuple(array.shape) != leaf.shape or array.dtype.numpy_dtype != leaf.dtype:
                said = f"{jax.tree_util.keystr(path)} is {list(array.shape)}, expected {list(leaf.shape)}"
                raise ValueError(said)
    except Exception as error:
        raise damaged(directory, step, error) from error
    keys = [jax.tree_util.keystr(path) for path, _ in paths]
    stored = [_Stored(a, sums.get(key), key, directory, step) for a, key in zip(arrays, keys, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(abstract), stored)


def _key(key: Any) -> str:
    return str(getattr(key, "key", None) or getattr(key, "name", ""))
