"""The flags of `jaxsae harvest`."""

import dataclasses
from typing import Literal

from jaxsae.config import check, check_positive, group, option
from jaxsae.harvest.text_config import TextConfig
from jaxsae.lm.options import HFConfig
from jaxsae.lm.othello import CONTEXT
from jaxsae.store import schema

DEFAULT_SITE = "resid_post.1"
SHIPPED = "shipped"
SOURCES = ("othello", "arrays", "hf", "nnx")
BATCHES = {"othello": 512, "hf": 16, "nnx": 16}


@dataclasses.dataclass(frozen=True)
class HarvestConfig:
    """Where activations come from, and the store they go to."""

    store: str = option(help="where to write: a directory, or a file://, gs:// or s3:// URL")
    source: Literal["othello", "arrays", "hf", "nnx"] = option(
        "othello",
        "othello: the GPT in the box plays random legal games; arrays: files named by --input; hf: a Hugging Face model "
        "reads --text; nnx: a flax nnx model does",
    )
    tokens: int | None = option(None, "rows to harvest; all that arrays or text give where it is left out")
    sites: tuple[str, ...] = option(
        (),
        f"activations to keep, comma-separated; othello: {DEFAULT_SITE} where it is left out, arrays: all of --input; "
        "hf: embed, resid_pre.L, attn_out.L, mlp_in.L, mlp_out.L, resid_post.L, or a module's path (PATH.input: its input)",
    )
    model: str = option(
        SHIPPED,
        "othello: shipped, a .safetensors file, or random:SEED for untrained weights; hf: hub id or directory; nnx: "
        "MODULE:FUNCTION, which returns a jaxsae.harvest.NNXModel",
    )
    seed: int = option(0, "othello: seed of the games")
    first_position: int = option(4, "othello: first ply kept of each game, from 0")
    last_position: int = option(50, f"othello: last ply kept, up to {CONTEXT - 1}")
    batch_size: int | None = option(
        None, "games or sequences in a forward pass; default: " + ", ".join(f"{k} {v}" for k, v in BATCHES.items())
    )
    input: tuple[str, ...] = option(
        (),
        "arrays: .npy or .safetensors files [rows, d_model], each FILE or SITE=FILE; files of a site follow each other",
    )
    tensor: str | None = option(None, "arrays: the tensor to read of .safetensors files that hold several")
    dtype: Literal["float32", "bfloat16", "float16"] = option(
        "float32",
        "of the store; bfloat16 halves it, but zarr-python cannot read it yet (TensorStore can); float16 halves it and ends "
        "at 65,504: a harvest that goes beyond is stopped",
    )
    shard_rows: int = option(schema.SHARD_ROWS, "rows of a shard: one file, and what a stopped harvest loses at most")
    chunk_rows: int = option(schema.CHUNK_ROWS, "rows of a chunk of a shard: what is read and checked at once")
    keep_bytes: int | None = option(
        None, "wait while so many bytes of activations are there, until `train --follow --keep_bytes` has removed some"
    )
    mesh: tuple[int, ...] = option(
        (),
        "nnx, hf with --backend=jax: this process's devices as DATA,MODEL; default: all on DATA; hf: or those of all "
        "processes, for a model that one host's devices cannot hold",
    )
    corpus: TextConfig = group(TextConfig)
    hf: HFConfig = group(HFConfig)

    def __post_init__(self):
        check_positive(self, "tokens", "batch_size", "shard_rows", "chunk_rows", "keep_bytes")
        schema.check_sharding(self.shard_rows, self.chunk_rows)
        check(self.dtype in schema.DTYPES, "dtype", self.dtype, f"must be one of {', '.join(schema.DTYPES)}")
        check(self.seed >= 0, "seed", self.seed, "must be 0 or more")
        duplicates = sorted({s for s in self.sites if self.sites.count(s) > 1})
        check(not duplicates, "sites", ",".join(self.sites), f"names {', '.join(duplicates)} twice")
        check(self.source in SOURCES, "source", self.source, f"must be one of {', '.join(SOURCES)}")
        if self.source == "othello":
            self._check_othello()
        if self.source == "arrays":
            check(bool(self.input), "input", "", "--source=arrays needs files: --input=a.npy,b.npy")
        else:
            fix = "is for --source=arrays; leave it out or set that source"
            check(not self.input, "input", ",".join(self.input), fix)
            check(self.tensor is None, "tensor", self.tensor, fix)
        if self.source in ("hf", "nnx"):
            what = "a hub id or a directory" if self.source == "hf" else "MODULE:FUNCTION"
            check(self.model not in ("", SHIPPED), "model", "", f"--source={self.source} needs {what}")
            check(bool(self.corpus.text), "text", "", f"--source={self.source} needs text: files, or a data set")
        else:
            text = ",".join(self.corpus.text)
            check(not text, "text", text, "is for --source=hf and nnx; leave it out or set that source")

    @property
    def forward_batch(self) -> int:
        """Games or sequences in a forward pass."""
        return self.batch_size or BATCHES[self.source]

    def _check_othello(self) -> None:
        check(self.tokens is not None, "tokens", "", "--source=othello needs the number of rows to harvest")
        first, last = self.first_position, self.last_position
        check(0 <= first < CONTEXT, "first_position", first, f"must be from 0 to {CONTEXT - 1}")
        check(first <= last < CONTEXT, "last_position", last, f"must be from --first_position={first} to {CONTEXT - 1}")
