"""What a store is made of: names, shapes and the metadata that says where its rows come from.

    zarr.json                          a group, so that zarr-python walks the whole tree
    sites/<site>/activations           [rows, d_model] float32, bfloat16 or float16
    tokens, sequence, position         [rows] int32, aligned with every site
    stats/<shard>.json                 row count, mean and centred squares of one shard, per site
    consumed/<shard>                   its activations were trained on and removed again (`train --keep_bytes`)

All arrays are zarr3 with the sharding codec and cut into the same shards of rows. A shard counts as
written when every array and `stats/` have it.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorstore as ts

from jaxsae.errors import InputError

FORMAT = "jaxsae-store/1"
COLUMNS = ("tokens", "sequence", "position")
DTYPES = ("float32", "bfloat16", "float16")
SHARD_ROWS, CHUNK_ROWS = 65_536, 1_024
# A meta-SAE's rows, another dictionary's decoder: their site, what a store's settings name as its source, and where the
# store lies in the run's directory.
DECODER, SOURCE_STORE = "decoder", "source_store"
GROUP = json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}}).encode()
_SITE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_ARRAY_KEY = re.compile(r"(sites/[^/]+/activations|tokens|sequence|position)/(?:zarr\.json|c/(\d+)(?:/0)?)")


@dataclasses.dataclass(frozen=True)
class Plan:
    """A store before its rows: everything that must agree for a second harvest to continue it.

    Attributes:
      rows: rows when complete.
      sites: site name -> d_model.
      dtype: of the activations, "float32", "bfloat16" or "float16".
      model, tokenizer, vocabulary, context: what the rows were read from (0 or "" where there is none).
      settings: what else decides the rows, plain JSON: source, seed, files, ...
      shard_rows, chunk_rows: rows of a shard (a file) and of a chunk in it (the unit of reading).
    """

    rows: int
    sites: Mapping[str, int]
    dtype: str = "float32"
    model: str = ""
    tokenizer: str = ""
    vocabulary: int = 0
    context: int = 0
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    shard_rows: int = SHARD_ROWS
    chunk_rows: int = CHUNK_ROWS

    def __post_init__(self):
        if self.rows < 1:
            raise InputError(f"A store needs at least one row, not {self.rows}.")
        if not self.sites:
            raise InputError("A store needs at least one site.")
        for site in self.sites:
            check_site_name(site)
        if self.dtype not in DTYPES:
            raise InputError(f"--dtype={self.dtype}: must be one of {', '.join(DTYPES)}")
        check_sharding(self.shard_rows, self.chunk_rows)

    @property
    def shards(self) -> int:
        """Number of shards, the last of which may be short."""
        return -(-self.rows // self.shard_rows)

    def shard_range(self, shard: int) -> tuple[int, int]:
        """First row of a shard and the row after its last."""
        return shard * self.shard_rows, min((shard + 1) * self.shard_rows, self.rows)

    def arrays(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Array path -> shape and data type, the columns last."""
        sites = {site_path(s): ((self.rows, d), self.dtype) for s, d in self.sites.items()}
        return sites | dict.fromkeys(COLUMNS, ((self.rows,), "int32"))

    def attributes(self) -> dict[str, Any]:
        """The metadata shared by all arrays, as JSON holds it."""
        identity = {
            "model": self.model,
            "tokenizer": self.tokenizer,
            "vocabulary": self.vocabulary,
            "context": self.context,
            "settings": dict(self.settings),
            "sites": sorted(self.sites),
            "rows": self.rows,
        }
        text = json.dumps(identity, sort_keys=True)
        fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
        return json.loads(text) | {"format": FORMAT, "fingerprint": fingerprint, "complete": False}

    def metadata(self, path: str) -> dict[str, Any]:
        """The zarr3 metadata of the array at `path`."""
        shape, dtype = self.arrays()[path]
        attributes = self.attributes()
        if path not in COLUMNS:
            attributes["site"] = path.split("/")[1]
        checked = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
        sharding = {
            "chunk_shape": [self.chunk_rows, *shape[1:]],
            "codecs": checked,
            "index_codecs": checked,
            "index_location": "end",
        }
        shard_shape = [self.shard_rows, *shape[1:]]
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(shape),
            "data_type": dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shard_shape}},
            "chunk_key_encoding": {"name": "default"},
            "fill_value": 0 if dtype == "int32" else 0.0,
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
            "attributes": attributes,
        }


def check_site_name(site: str) -> None:
    """Raises `InputError` where a site's name cannot be a directory's."""
    if not _SITE.fullmatch(site):
        raise InputError(f"Site {site!r}: use letters, digits, '.', '_' and '-' only, and no '.' in front.")


def check_sharding(shard_rows: int, chunk_rows: int) -> None:
    """Raises `InputError` unless shards are whole numbers of chunks."""
    if chunk_rows < 1:
        raise InputError(f"--chunk_rows={chunk_rows}: must be above 0")
    if shard_rows < 1 or shard_rows % chunk_rows:
        raise InputError(f"--shard_rows={shard_rows}: must be a multiple of --chunk_rows={chunk_rows}, above 0")


def site_path(site: str) -> str:
    """Path of a site's array under the store."""
    return f"sites/{site}/activations"


def consumed_path(shard: int) -> str:
    """Path of the mark that a shard's activations were removed."""
    return f"consumed/{shard}"


def stats_path(shard: int) -> str:
    """Path of a shard's statistics under the store."""
    return f"stats/{shard}.json"


def consumed_shards(keys: list[str]) -> set[int]:
    """The shards whose activations were removed after training, of a listing of a store's keys."""
    return {int(key.split("/")[1]) for key in keys if re.fullmatch(r"consumed/\d+", key)}


def is_own(key: str) -> bool:
    """Whether a key holds metadata, a shard or statistics of a site or a column, which a harvest can make again."""
    return bool(_ARRAY_KEY.fullmatch(key) or re.fullmatch(r"stats/\d+\.json|sites/([^/]+/)?zarr\.json", key))


def numpy_dtype(name: str) -> np.dtype:
    """The NumPy dtype of "float32", "bfloat16" or "float16"."""
    return ts.dtype(name).numpy_dtype


def inventory(keys: list[str]) -> tuple[dict[str, set[int]], set[int]]:
    """What a listing of a store's keys holds.

    Returns:
      {path of each array that has metadata: its shards}, and the shards that have statistics.
    """
    arrays, shards, stats = [], {}, set()
    for key in keys:
        if match := _ARRAY_KEY.fullmatch(key):
            path, shard = match.groups()
            if shard is None:
                arrays.append(path)
            else:
                shards.setdefault(path, set()).add(int(shard))
        elif match := re.fullmatch(r"stats/(\d+)\.json", key):
            stats.add(int(match.group(1)))
    return {path: shards.get(path, set()) for path in sorted(arrays)}, stats
