"""`jaxsae import`: files of another tool to a run, or, of a set of transcoders, to runs of a layer each."""

import dataclasses
import re
import shlex
from pathlib import Path

from jaxsae.config import check, check_positive, option
from jaxsae.dictionary import Dictionary
from jaxsae.errors import InputError
from jaxsae.exchange import circuit_tracer, sites
from jaxsae.exchange.api import check_free
from jaxsae.exchange.formats import FormatName, check_taken, find, read_any
from jaxsae.exchange.hub import ENDINGS, directory_of
from jaxsae.files import replacing, write_json
from jaxsae.progress import Progress, say

ANY = "*"  # for the layer, of a set


@dataclasses.dataclass(frozen=True)
class ImportConfig:
    """Flags of `jaxsae import`."""

    input: str = option(
        help="directory with the files, or a folder of the Hugging Face hub, OWNER/NAME/FOLDER or OWNER/NAME/FOLDER@REVISION"
    )
    output: str = option(
        help="run to write, which evaluate, export, sweep and train accept; of a set of several layers a directory with a "
        "run of each, which evaluate takes whole; must not exist or be empty"
    )
    format: FormatName | None = option(None, "whose files to read; default: that whose files are there")
    site: str = option(
        "",
        "what jaxsae calls the activations, such as resid_post.3, or 'mlp_in.3->mlp_out.3' of a transcoder, "
        "'mlp_in.*->mlp_out.*' of a set; default: as the files say",
    )
    k: int | None = option(
        None,
        "saelens, circuit_tracer, gemma_scope: active latents of a row on average, of a jumprelu that does not say it",
    )
    layer: int | None = option(None, "circuit_tracer: one layer's transcoder of a set; default: all that there are")

    def __post_init__(self):
        check_positive(self, "k")
        check(self.layer is None or self.layer >= 0, "layer", self.layer, "must be 0 or more")
        if self.format is not None:
            check_taken(self.format, self.known)

    @property
    def known(self) -> dict[str, int]:
        """What the flags say that files may leave open."""
        return {name: getattr(self, name) for name in ("k", "layer") if getattr(self, name) is not None}


def import_(config: ImportConfig) -> Path:
    """Reads another tool's files into a run, or those of a set into a run of each layer, whole or not at all.

    Returns:
      The run's directory, or that of the runs.

    Raises:
      InputError: files missing, damaged or of an unsupported architecture; an output in the way; of a hub id as
        `hub.directory_of`.
    """
    output = Path(config.output)
    check_free(output, overwrite=False)  # before anything is fetched
    one = f"layer_{config.layer}.safetensors", "*.yaml", "*.json"
    source = directory_of(config.input, "--input", ENDINGS if config.layer is None else one)
    name = config.format or find(source)
    check_taken(name, config.known)
    layers = circuit_tracer.members(source) if name == "circuit_tracer" and config.layer is None else []
    if layers:
        return _import_set(config, source, layers, output)
    dictionary = read_any(source, name, config.site, **config.known)
    _save(dictionary, output)
    say(f"{output}: {_told(dictionary)}.", *_next(dictionary, output))
    return output


def _import_set(config: ImportConfig, source: Path, layers: list[int], output: Path) -> Path:
    """A run of each layer, in directories by the sites that they write, as `train --writes='mlp_out.*'` has them."""
    from jaxsae.training import save_dictionary
    from jaxsae.training.sets import SET_IMPORTED

    if config.site and ANY not in config.site:
        said = f"{source} has layers {layers[0]} to {layers[-1]}"
        raise InputError(f"--site={config.site}: {said}: give --layer with it, or names such as 'mlp_in.*->mlp_out.*'.")
    with replacing(output) as staging, Progress(len(layers), "import", "layer") as bar:
        for layer in layers:
            site = config.site.replace(ANY, str(layer))
            dictionary = read_any(source, "circuit_tracer", site, layer=layer, **config.known)
            save_dictionary(staging / dictionary.metadata["writes"][0], dictionary)
            bar.advance(1)
        write_json(staging / SET_IMPORTED, {"imported_from": "circuit_tracer", "input": config.input})
    say(f"{output}: {len(layers)} runs, each {_told(dictionary)}.", *_next(dictionary, output, layers[-1]))
    return output


def _save(dictionary: Dictionary, output: Path) -> None:
    from jaxsae.training import save_dictionary

    with replacing(output) as staging:
        save_dictionary(staging, dictionary)


def _told(dictionary: Dictionary) -> str:
    """What a dictionary is, in a line."""
    method, own = dictionary.config, dictionary.params.latent
    k = f", k {method.told_k:g}" if method.told_k else ""
    threshold = f", threshold {dictionary.threshold:.6g}" if method.has_threshold else ""
    if "threshold" in own:
        threshold = f", thresholds {own['threshold'].min():.6g} to {own['threshold'].max():.6g}"
    return f"{method.architecture}, {dictionary.width:,} latents of {dictionary.d_model:,}{k}{threshold}"


def _next(dictionary: Dictionary, output: Path, layer: int | None = None) -> list[str]:
    """What to do with it: that its site is not known, and how its training goes on; `layer`: of a set, whose last that is."""
    method, metadata = dictionary.config, dictionary.metadata
    missing = ("reads" not in metadata) if method.transcode else not metadata.get("site")
    lines = []
    if missing:
        example = "'mlp_in.3->mlp_out.3'" if method.transcode else "resid_post.3"
        lines += [f"Which activations it takes is not said: import it with --site, such as --site={example}."]
    k = method.told_k if method.takes("k") else None
    flags = [f"--architecture={method.architecture}", f"--width={method.width}", *([f"--k={round(k)}"] if k else [])]
    if method.prefixes:
        flags.append(f"--prefixes={','.join(map(str, method.prefixes))}")
    if method.transcode and not missing:
        sides = {side: ",".join(metadata[side]) for side in sites.SIDES}
        whole = {side: re.sub(rf"(?<![0-9]){layer}(?![0-9])", ANY, names) for side, names in sides.items()}
        flags += [f"--{side}={names}" for side, names in (sides if layer is None else whole).items()]
        flags += ["--cross_layer"] if method.layers > 1 else []
    flags += ["--skip"] if method.skip else []
    command = f"jaxsae train --initialize_from={output} {shlex.join(flags)} --store=STORE ..."
    return [*lines, f"Its training goes on with: {command}"]
