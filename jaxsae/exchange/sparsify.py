"""EleutherAI sparsify: `<hookpoint>/sae.safetensors` and `<hookpoint>/cfg.json`.

Only `topk` and its kin, as autoencoders and as transcoders: its coder keeps the k largest latents of a row, never all that
are positive or above a threshold. The files stand in OUTPUT/<site>/, and OUTPUT has links to them, so that
`load_many(OUTPUT)` and `load_from_disk(OUTPUT)` both work.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from jaxsae.dictionary import SKIP, Dictionary, MethodConfig
from jaxsae.errors import InputError
from jaxsae.exchange import provenance, sites, stream, weights
from jaxsae.exchange.files import (
    check_setting,
    read_json,
    read_k,
    read_safetensors,
)
from jaxsae.exchange.holds import name_in
from jaxsae.exchange.ranges import pieces
from jaxsae.exchange.weights import Form
from jaxsae.files import write_json

WEIGHTS, CONFIG = "sae.safetensors", "cfg.json"
FILES = frozenset({WEIGHTS, CONFIG})
_IS_SITE = re.compile(r"(layers|h)\.\d+|embed_tokens$")
_NO_GROUPS = (
    "group-max keeps the largest latent of each of k groups, however small, and no --architecture of jaxsae does"
)
FORM: Form = {
    "encoder.weight": ("W_enc", "nd"),
    "encoder.bias": ("b_enc", "n"),
    "W_dec": ("W_dec", "nd"),
    "b_dec": ("b_dec", "d"),
}


def write(dictionary: Dictionary, output: Path, dtype: str = "float32") -> None:
    """Writes `dictionary` into the directory `output`.

    Raises:
      InputError: a method that its coder is not, weights that are not finite or too large for `dtype`.
    """
    name_in("sparsify", dictionary)
    transcodes = dictionary.config.transcode  # from whose input nothing is subtracted
    change = lambda w: weights.set_pre_bias(w, now=dictionary.pre_bias, wanted=not transcodes)
    reads, writes = dictionary.d_model, dictionary.widths.d_out
    if reads != writes:
        raise InputError(
            f"--format=sparsify: its coder writes as many numbers as it reads, and this transcoder reads {reads} and "
            f"writes {writes}. Take --format=saelens with a --architecture=batchtopk or jumprelu."
        )
    folder = output / provenance.folder_name(dictionary.metadata)
    folder.mkdir(exist_ok=True)
    arrays = (w.arrays for w in pieces(dictionary, change))
    stream.write({folder / WEIGHTS: _form(dictionary.config.skip)}, arrays, dictionary.width, dtype)
    write_json(folder / CONFIG, _config(dictionary))
    for name in sorted(FILES):
        _link(folder / name, output / name)


def _form(skip: bool) -> Form:
    return FORM | {SKIP: (SKIP, "dd")} if skip else FORM


def snippet(output: Path) -> str:
    """Python that loads the export."""
    load = f"sae = SparseCoder.load_from_disk({json.dumps(str(output))})"
    return f"from sparsify import SparseCoder\n{load}\nx_hat = sae(x).sae_out"


def read(input: Path) -> Dictionary:
    """Reads a hookpoint's directory, or one that holds a single hookpoint.

    Raises:
      InputError: files or tensors missing or misshapen, several hookpoints, group-max.
    """
    folder = _hookpoint(input)
    path = folder / CONFIG
    settings = read_json(path)
    check_setting(settings, "activation", "topk", path, _NO_GROUPS)
    kind = {"transcode": bool(settings.get("transcode")), "skip": bool(settings.get("skip_connection"))}
    if not kind["transcode"]:
        check_setting(settings, "skip_connection", False, path, "with a map past them an autoencoder needs no latents")
    w = weights.of_tensors(read_safetensors(folder / WEIGHTS), _form(kind["skip"]), folder / WEIGHTS)
    check_setting(settings, "d_in", w.d_model, path, f"{WEIGHTS} says so")
    if settings.get("num_latents"):  # 0: as many as the weights have
        check_setting(settings, "num_latents", w.width, path, f"{WEIGHTS} says so")
    k = read_k({"k": settings.get("k", 32)}, w.width, path)  # 32 is sparsify's default
    record = settings.get("jaxsae")
    trained = record.get("architecture") if isinstance(record, Mapping) else None
    architecture = "multi_topk" if settings.get("multi_topk") or trained == "multi_topk" else "topk"
    where = sites.of_module(folder.name if folder != input or _IS_SITE.match(folder.name) else None, kind["transcode"])
    metadata = provenance.imported(settings, "sparsify", **where)
    return weights.to_dictionary(w, MethodConfig(w.width, architecture, k, **kind), metadata, str(folder))


def is_here(path: Path) -> bool:
    """Whether `path` is a directory of this format; one of several hookpoints' directories is not."""
    return all((path / name).is_file() for name in FILES)


def hookpoints(path: Path) -> list[Path]:
    """The hookpoints' directories in `path`, sorted by name."""
    return sorted(p for p in path.iterdir() if is_here(p)) if path.is_dir() else []


def _hookpoint(path: Path) -> Path:
    """The directory with the files: `path`'s only hookpoint, or `path` itself."""
    found = hookpoints(path)
    if len(found) > 1 and not is_here(path):
        names = ", ".join(p.name for p in found)
        raise InputError(f"--input={path}: holds several hookpoints ({names}). Name one, such as --input={found[0]}.")
    return found[0] if len(found) == 1 else path


def _config(dictionary: Dictionary) -> dict:
    return {
        "d_in": dictionary.d_model,
        "num_latents": dictionary.width,
        "k": dictionary.config.k,
        "expansion_factor": max(1, round(dictionary.width / dictionary.d_model)),
        "activation": "topk",
        "normalize_decoder": not dictionary.config.transcode,
        "multi_topk": False,  # with it forward() would decode 4 k latents, for a loss
        "skip_connection": dictionary.config.skip,
        "transcode": dictionary.config.transcode,
        "jaxsae": provenance.own_record(dictionary.metadata) | {"architecture": dictionary.config.architecture},
    }


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
