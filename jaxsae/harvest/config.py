"""The flags of `jaxsae harvest`."""

import dataclasses
from typing import Literal

from jaxsae.config import check, check_positive, option
from jaxsae.lm.othello import CONTEXT
from jaxsae.store import schema

DEFAULT_SITE = "resid_post.1"


@dataclasses.dataclass(frozen=True)
class HarvestConfig:
    """Where activations come from, and the store they go to."""

    store: str = option(help="where to write: a directory, or a file://, gs:// or s3:// URL")
    source: Literal["othello", "arrays"] = option(
        "othello", "othello: the GPT in the box plays random legal games; arrays: files named by --input"
    )
    tokens: int | None = option(None, "rows to harvest; arrays: all rows where it is left out")
    sites: tuple[str, ...] = option(
        (), f"activations to keep, comma-separated; left out: {DEFAULT_SITE}, or all of --input"
    )
    model: str = option("shipped", "othello: shipped, a .safetensors file, or random:SEED for untrained weights")
    seed: int = option(0, "othello: seed of the games")
    first_position: int = option(4, "othello: first ply kept of each game, from 0")
    last_position: int = option(50, f"othello: last ply kept, up to {CONTEXT - 1}")
    batch_size: int = option(512, "othello: games in a forward pass")
    input: tuple[str, ...] = option(
        (),
        "arrays: .npy or .safetensors files [rows, d_model], each FILE or SITE=FILE; files of a site follow each other",
    )
    tensor: str | None = option(None, "arrays: the tensor to read of .safetensors files that hold several")
    dtype: Literal["float32", "bfloat16"] = option(
        "float32", "of the store; bfloat16 halves it, but zarr-python cannot read it yet (TensorStore can)"
    )
    shard_rows: int = option(schema.SHARD_ROWS, "rows of a shard: one file, and what a stopped harvest loses at most")
    chunk_rows: int = option(schema.CHUNK_ROWS, "rows of a chunk of a shard: what is read and checked at once")

    def __post_init__(self):
        check_positive(self, "tokens", "batch_size", "shard_rows", "chunk_rows")
        schema.check_sharding(self.shard_rows, self.chunk_rows)
        check(self.dtype in schema.DTYPES, "dtype", self.dtype, f"must be one of {', '.join(schema.DTYPES)}")
        check(self.seed >= 0, "seed", self.seed, "must be 0 or more")
        duplicates = sorted({s for s in self.sites if self.sites.count(s) > 1})
        check(not duplicates, "sites", ",".join(self.sites), f"names {', '.join(duplicates)} twice")
        check(self.source in ("othello", "arrays"), "source", self.source, "must be othello or arrays")
        if self.source == "othello":
            self._check_othello()
        else:
            check(bool(self.input), "input", "", "--source=arrays needs files: --input=a.npy,b.npy")

    def _check_othello(self) -> None:
        check(self.tokens is not None, "tokens", "", "--source=othello needs the number of rows to harvest")
        check(not self.input, "input", ",".join(self.input), "is for --source=arrays; leave it out or set that source")
        check(self.tensor is None, "tensor", self.tensor, "is for --source=arrays; leave it out or set that source")
        first, last = self.first_position, self.last_position
        check(0 <= first < CONTEXT, "first_position", first, f"must be from 0 to {CONTEXT - 1}")
        check(first <= last < CONTEXT, "last_position", last, f"must be from --first_position={first} to {CONTEXT - 1}")
