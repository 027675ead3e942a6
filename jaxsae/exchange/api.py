"""`jaxsae export`: a run, or what its latents fire on, to files of another tool."""

import dataclasses
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from jaxsae.config import check, check_positive, option
from jaxsae.errors import InputError
from jaxsae.exchange import publish, push, recorded, weights
from jaxsae.exchange.exported import Exported, dictionaries
from jaxsae.exchange.formats import FORMATS, FormatName
from jaxsae.exchange.holds import PLAIN
from jaxsae.exchange.publish_names import CARD, is_card
from jaxsae.exchange.stream import DtypeName
from jaxsae.files import replacing
from jaxsae.paths import check_above
from jaxsae.progress import say

ExportName = Literal[FormatName, "neuronpedia", "contexts"]


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """Flags of `jaxsae export`."""

    run: str = option(
        help="run, or one of its checkpoints, to export; of runs of several sites each, in a folder by its site, or as the "
        "one set of --format=circuit_tracer"
    )
    format: ExportName = option(
        help="whose files to write; neuronpedia, contexts: of what latents fire on, as report --latents found it"
    )
    output: str = option(
        "",
        "directory to write; must not exist or be empty; with --push default: a temporary one (TMPDIR), removed at the end",
    )
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
    overwrite: bool = option(False, "replace an earlier export at --output, and at --push")
    push: str = option(
        "",
        "OWNER/NAME, or OWNER/NAME@BRANCH: put the export on the Hugging Face hub in one commit, with a model card made of "
        "the run's configuration and of what evaluate measured; the token is that of `hf auth login`, or HF_TOKEN",
    )
    dry_run: bool = option(
        False, "push: write export and card to --output, say what would be pushed, and touch no network"
    )
    licence: str = option(
        "", "push: of the weights, by the hub's name, such as apache-2.0, mit or cc-by-4.0; default: unsaid"
    )
    private: bool = option(False, "push: whether the repository is private, where it is made")

    def __post_init__(self):
        check_positive(self, "k", "shard_gb")
        check(bool(self.output) or not self.dry_run, "dry_run", "true", "writes what would be pushed: name --output")
        for flag in ("dry_run", "licence", "private"):
            check(bool(self.push) or not getattr(self, flag), flag, getattr(self, flag), "is for --push=OWNER/NAME")
        named = re.fullmatch(r"[a-z0-9.+-]*", self.licence)
        check(bool(named), "licence", self.licence, "give the hub's name of it, such as apache-2.0, mit or cc-by-4.0")
        here = f"--format={self.format} holds no weights; push one that does"
        check(not self.push or self.format not in recorded.FORMATS, "push", self.push, here)
        wants = "--format=neuronpedia alone holds labels; contexts are what labels are made of"
        check(self.format == "neuronpedia" or not self.labels, "labels", self.labels, wants)
        fixed = "is of --format with weights; latents were recorded with the dictionary's own k"
        check(self.k is None or self.format not in recorded.FORMATS, "k", self.k, fixed)
        plain = f"--format={self.format} has no matrices: leave the flag out"
        check(self.dtype == "float32" or self.format not in recorded.FORMATS, "dtype", self.dtype, plain)
        alone = f"--format={self.format} holds one dictionary: leave the flag out"
        check(self.format == "circuit_tracer" or not self.also, "also", ",".join(self.also), alone)


def export(config: ExportConfig) -> Path:
    """Writes a run's dictionary in another tool's format, or those of a set, whole or not at all, and prints how to load it;
    with `push` puts it on the hub.

    Returns:
      The directory written.

    Raises:
      InputError: no such run, an output in the way, weights that are not finite or that the format cannot hold, no record
        of what latents fire on where the format holds that; of a push as `push.ready` and `push.send`.
    """
    name = push.name_of(config.push) if config.push else None
    with _place(config) as output:
        check_free(output, config.overwrite)
        if config.format in recorded.FORMATS:
            return _export_record(config, output)
        exported = dictionaries(config.run, config.also, config.format, config.k)
        target = None
        if name is not None and not config.dry_run:
            known = frozenset({CARD}).union(*(f.FILES for f in FORMATS.values()))
            card = publish.card_of(exported, config, name.repo, code="")
            target = push.ready(name, config.private, config.overwrite, card, known)
        with replacing(output) as staging:
            publish.write(exported, staging, config)
            if name is not None:
                publish.write_card(exported, staging, config, name.repo)
        _say(exported, output, config)
        if target is not None:
            message = f"jaxsae export: {config.format}, {exported[0].dictionary.width:,} latents"
            say(f"Pushed: {push.send(target, output, message, config.output)}")
        elif name is not None:
            say(*publish.would_push(output, name))
    return output


@contextmanager
def _place(config: ExportConfig) -> Iterator[Path]:
    """Where the export is written: a directory that goes again where none is named."""
    if config.output:
        yield Path(config.output)
        return
    if not config.push:
        raise InputError("--output is required: name a directory to write, or with --push=OWNER/NAME a repository.")
    with tempfile.TemporaryDirectory(prefix="jaxsae-") as folder:
        yield Path(folder) / "export"


def _export_record(config: ExportConfig, output: Path) -> Path:
    from jaxsae.training import load_by_range

    dictionary = load_by_range(config.run)
    with replacing(output) as staging:
        recorded.write(config.format, Path(config.run), dictionary, staging, config.labels)
    print(f"# {config.format}: load {output} with\n{recorded.FORMATS[config.format].snippet(output)}\n")
    return output


def _say(exported: Sequence[Exported], output: Path, config: ExportConfig) -> None:
    """What was written, and the lines that load it."""
    first, jumps = exported[0].dictionary, ("saelens", "circuit_tracer", "gemma_scope")
    if first.config.has_threshold and config.format in jumps:
        own = f"the threshold {first.threshold:.6g}" if len(exported) == 1 else "the threshold of its dictionary"
        say(f"As a jumprelu: every latent has {own}.")
    if config.format != PLAIN and first.config.architecture in weights.FREE_ROWS and not first.config.transcode:
        say("Decoder rows now have length 1: latent i is ||W_dec,i|| times what it was; reconstructions are the same.")
    many = f"{len(exported)} dictionaries of " if len(exported) > 1 else ""
    say(f"{config.output or config.push}: {config.format}, {many}{first.width:,} latents of {first.d_model:,}")
    if config.output:
        there = output / exported[0].folder
        print(f"# {config.format}: load {there} with\n{FORMATS[config.format].snippet(there)}\n")


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
    files = [p for p in output.rglob("*") if not p.is_dir()]
    strange = sorted(str(p.relative_to(output)) for p in files if p.name not in known and not is_card(p))
    if strange or not any(f.is_here(output) for f in every):
        what = f"holds {strange[0]}, which no export wrote" if strange else "is not an export"
        raise InputError(f"--output={output}: {what}; --overwrite replaces exports only. Name another directory.")
