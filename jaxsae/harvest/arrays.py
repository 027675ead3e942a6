"""Activations that stand in files already: the same rows, one after the other, in a store."""

import bisect
import re
import zlib
from itertools import accumulate
from pathlib import Path

import numpy as np

from jaxsae.config import check
from jaxsae.errors import InputError
from jaxsae.harvest.array_files import open_array
from jaxsae.harvest.config import HarvestConfig
from jaxsae.harvest.source import Shard, Source
from jaxsae.store import Plan, schema
from jaxsae.store.writer import cast_finite

DEFAULT_SITE = "activations"


class ArraysSource(Source):
    """Rows of `.npy` and `.safetensors` files; several files of a site are read end to end.

    There is no text behind such rows: `tokens` is -1, `sequence` the number of the file among its
    site's and `position` the row in the file, counted over the first site's files.
    """

    def __init__(self, config: HarvestConfig):
        """Maps the files.

        Raises:
          InputError: what `open_array` refuses, differing widths or row counts, fewer rows than --tokens.
        """
        files = parse_input(config.input)
        for site in config.sites:
            check(site in files, "sites", site, f"not in --input, which has: {', '.join(files)}")
        if config.sites:
            files = {site: files[site] for site in config.sites}
        self._sites = {site: _Joined(site, paths, config.tensor) for site, paths in files.items()}
        rows = {site: joined.rows for site, joined in self._sites.items()}
        if len(set(rows.values())) > 1:
            listed = ", ".join(f"{site} {n}" for site, n in rows.items())
            raise InputError(f"--input: sites of one store need the same rows, but these have: {listed}")
        available = next(iter(rows.values()))
        tokens = config.tokens or available
        check(tokens <= available, "tokens", config.tokens, f"the files of --input have {available} rows")
        self._dtype = schema.numpy_dtype(config.dtype)
        self.plan = Plan(
            rows=tokens,
            sites={site: joined.width for site, joined in self._sites.items()},
            dtype=config.dtype,
            settings={"source": "arrays", "files": {site: joined.described() for site, joined in self._sites.items()}},
            shard_rows=config.shard_rows,
            chunk_rows=config.chunk_rows,
        )

    def shard(self, shard: int) -> Shard:
        """Activations {site: [n, d_model]} and columns {name: int32 [n]} of one shard.

        Raises:
          InputError: NaN, Inf or what overflows the store's type, naming file and row.
        """
        start, stop = self.plan.shard_range(shard)
        activations = {site: joined.read(start, stop, self._dtype) for site, joined in self._sites.items()}
        sequence, position = next(iter(self._sites.values())).origin(start, stop)
        columns = {"tokens": np.full(stop - start, -1), "sequence": sequence, "position": position}
        return activations, {name: column.astype(np.int32) for name, column in columns.items()}


class _Joined:
    """The files of one site as one array [rows, width]."""

    def __init__(self, site: str, paths: list[str], tensor: str | None):
        self.paths = paths
        self._arrays = [open_array(path, tensor) for path in paths]
        self.width = self._arrays[0].shape[1]
        for path, array in zip(paths, self._arrays, strict=True):
            check(
                array.shape[1] == self.width,
                "input",
                path,
                f"d_model {array.shape[1]}, but {paths[0]} of the same site {site} has {self.width}",
            )
        self._first_rows = [0, *accumulate(len(array) for array in self._arrays)]
        self.rows = self._first_rows[-1]

    def described(self) -> list[str]:
        """Names, shapes and sums of a few rows, to tell these files from others when a harvest is continued."""
        told = zip(self.paths, self._arrays, strict=True)
        return [f"{Path(path).name} {list(array.shape)} crc32 {_sampled_crc(array)}" for path, array in told]

    def read(self, start: int, stop: int, dtype: np.dtype) -> np.ndarray:
        """Rows start:stop in `dtype`, finite."""
        parts = []
        for file, low, high in self._spans(start, stop):
            parts.append(cast_finite(self._arrays[file][low:high], dtype, f"--input={self.paths[file]}", low))
        return np.concatenate(parts)

    def origin(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """For each row its file's number, and its row in that file."""
        spans = self._spans(start, stop)
        files = np.concatenate([np.full(high - low, file) for file, low, high in spans])
        return files, np.concatenate([np.arange(low, high) for _, low, high in spans])

    def _spans(self, start: int, stop: int) -> list[tuple[int, int, int]]:
        """(file, first row, row after the last) for each file that holds some of start:stop."""
        spans, at = [], start
        while at < stop:
            file = bisect.bisect_right(self._first_rows, at) - 1
            end = min(stop, self._first_rows[file + 1])
            spans.append((file, at - self._first_rows[file], end - self._first_rows[file]))
            at = end
        return spans


def _sampled_crc(array: np.ndarray) -> str:
    """CRC-32 of 16 rows spread over an array: cheap on a file of any size, and other data have another."""
    rows = np.unique(np.linspace(0, len(array) - 1, 16).astype(int))
    return f"{zlib.crc32(np.ascontiguousarray(array[rows]).tobytes()):08x}"


def parse_input(entries: tuple[str, ...]) -> dict[str, list[str]]:
    """FILE and SITE=FILE entries as {site: files}; without a site it is "activations"."""
    files: dict[str, list[str]] = {}
    for entry in entries:
        match = re.fullmatch(r"([A-Za-z0-9_-][A-Za-z0-9_.-]*)=(.+)", entry)
        # A path may hold "=" itself.
        site, path = match.groups() if match and not Path(entry).exists() else (DEFAULT_SITE, entry)
        files.setdefault(site, []).append(path)
    return files
