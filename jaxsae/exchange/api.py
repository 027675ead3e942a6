"""`jaxsae export`: a run, or what its latents fire on, to files of another tool."""

import dataclasses
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np

from jaxsae.config import check, check_positive, option
from jaxsae.errors import DiskFullError, InputError, reraise_if_disk_full
from jaxsae.exchange import recorded, saelens, weights
from jaxsae.exchange.formats import FORMATS, FormatName
from jaxsae.exchange.holds import PLAIN, name_in
from jaxsae.exchange.stream import DtypeName
from jaxsae.paths import check_above
from jaxsae.progress import say

ExportName = Literal[FormatName, "neuronpedia", "contexts"]


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """Flags of `jaxsae export`."""

    run: str = option(help="run, or one of its checkpoints, to export")
    format: ExportName = option(
        help="whose files to write; neuronpedia, contexts: of what latents fire on, as report --latents found it"
    )
    output: str = option(help="directory to write; must not exist or be empty")
    k: int | None = option(
        None,
        "latents that a row keeps, of a dictionary that was trained for several (hierarchical_topk); default: its own k",
    )
    also: tuple[str, ...] = option(
        (), "circuit_tracer: the runs of the other layers, whose transcoders make one set with this one's"
    )
    labels: str = option("", "neuronpedia: file of labels, written as its explanations (see report)")
    dtype: DtypeName = option(
        "float32",
        "of matrices; biases and thresholds, which say what fires, stay float32 in the file, whatever the tool makes of them",
    )
    shard_gb: float = option(5.0, "safetensors: gigabytes of a file at most, but for a tensor that is larger by itself")
    overwrite: bool = option(False, "replace an earlier export at --output")

    def __post_init__(self):
        check_positive(self, "k", "shard_gb")
        wants = "--format=neuronpedia alone holds labels; contexts are what labels are made of"
        check(self.format == "neuronpedia" or not self.labels, "labels", self.labels, wants)
        fixed = "is of --format with weights; latents were recorded with the dictionary's own k"
        check(self.k is None or self.format not in recorded.FORMATS, "k", self.k, fixed)
        plain = f"--format={self.format} has no matrices: leave the flag out"
        check(self.dtype == "float32" or self.format not in recorded.FORMATS, "dtype", self.dtype, plain)
        alone = f"--format={self.format} holds one dictionary: leave the flag out"
        check(self.format == "circuit_tracer" or not self.also, "also", ",".join(self.also), alone)


def export(config: ExportConfig) -> Path:
    """Writes a run's dictionary in another tool's format, whole or not at all, and prints how to load it.

    Returns:
      The directory written.

    Raises:
      InputError: no such run, an output in the way, weights that are not finite or that the format cannot hold, no record
        of what latents fire on where the format holds that.
    """
    from jaxsae.training import load_by_range

    output = Path(config.output)
    check_free(output, config.overwrite)
    dictionary = load_by_range(config.run)
    if config.format in recorded.FORMATS:
        with replacing(output) as staging:
            recorded.write(config.format, Path(config.run), dictionary, staging, config.labels)
        print(f"# {config.format}: load {output} with\n{recorded.FORMATS[config.format].snippet(output)}\n")
        return output
    file_format = FORMATS[config.format]
    if config.k is not None:
        dictionary = dictionary.with_k(config.k)
    name_in(config.format, dictionary)  # refuses what it cannot hold before anything is written
    frequency = _frequencies(Path(config.run), dictionary.width) if config.format == "saelens" else None
    others = {"others": [load_by_range(run) for run in config.also]} if config.also else {}
    if config.format == PLAIN:
        others["shard_bytes"] = config.shard_gb * 1e9
    with replacing(output) as staging:
        file_format.write(dictionary, staging, dtype=config.dtype, **others)
        if frequency is not None:
            saelens.write_sparsity(staging, frequency)
    if dictionary.config.has_threshold and config.format in ("saelens", "circuit_tracer", "gemma_scope"):
        say(f"As a jumprelu: every latent has the threshold {dictionary.threshold:.6g}.")
    if dictionary.config.architecture in weights.FREE_ROWS and not dictionary.config.transcode:
        say("Decoder rows now have length 1: latent i is ||W_dec,i|| times what it was; reconstructions are the same.")
    say(f"{output}: {config.format}, {dictionary.width:,} latents of {dictionary.d_model:,}")
    print(f"# {config.format}: load {output} with\n{file_format.snippet(output)}\n")
    return output


def check_free(output: Path, overwrite: bool) -> None:
    """Refuses an output with something in it; `overwrite` allows an earlier export alone, never other files."""
    check_above("--output=", output)
    if output.exists() and not output.is_dir():
        raise InputError(f"--output={output}: is a file; name a directory.")
    if not output.is_dir() or not any(output.iterdir()):
        return
    if not overwrite:
        raise InputError(f"--output={output}: exists and is not empty. Name another directory, or remove it first.")
    every = (FORMATS | recorded.FORMATS).values()
    known = frozenset().union(*(f.FILES for f in every))
    strange = sorted(str(p.relative_to(output)) for p in output.rglob("*") if not p.is_dir() and p.name not in known)
    if strange or not any(f.is_here(output) for f in every):
        what = f"holds {strange[0]}, which no export wrote" if strange else "is not an export"
        raise InputError(f"--output={output}: {what}; --overwrite replaces exports only. Name another directory.")


@contextmanager
def replacing(output: Path) -> Iterator[Path]:
    """A new directory beside `output` that takes its place at the end, or is removed where anything fails."""
    output = output.resolve()
    name = f".{output.name}.{uuid.uuid4().hex[:8]}"
    staging, old = output.with_name(f"{name}.partial"), output.with_name(f"{name}.old")
    try:
        staging.mkdir(parents=True)
        yield staging
        if output.exists():
            output.rename(old)
        staging.rename(output)
    except BaseException as error:
        if old.exists() and not output.exists():
            old.rename(output)
        if isinstance(error, Exception) and not isinstance(error, DiskFullError):
            reraise_if_disk_full(error, str(output))
        if isinstance(error, PermissionError):
            raise InputError(f"--output={output}: cannot be written (permission denied).") from None
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _frequencies(run: Path, width: int) -> np.ndarray | None:
    """Firing frequency [n] of each latent, where the run was evaluated."""
    path = run / "eval" / "frequencies.npz"
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            frequency = np.asarray(file["frequency"], np.float64)
    except (KeyError, ValueError, OSError) as error:
        say(f"{path}: cannot be read ({error}); the export goes without sparsity.safetensors.")
        return None
    if frequency.shape != (width,) or not np.isfinite(frequency).all():
        say(f"{path}: is not of this dictionary; the export goes without sparsity.safetensors.")
        return None
    return frequency
