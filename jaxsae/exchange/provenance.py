"""Where a dictionary's activations come from, in the words of other tools."""

import re
from collections.abc import Mapping
from typing import Any

from jaxsae.version import __version__

# Metadata that travels with an export; with the fingerprint, evaluation knows which rows of its store were held out.
KEPT = ("model", "site", "context", "tokenizer", "tokens", "first_position", "last_position")
KEPT += ("fingerprint", "holdout_rows", "source", "directions", "prepend_bos")
SITES = ("reads", "writes")  # of a transcoder, lists of sites
_BLOCK_SITE = re.compile(r"(?:^|.*\.)(resid_pre|resid_mid|resid_post|attn_out|mlp_out)\.(\d+)")
_HF_LAYER = re.compile(r"(?:[^\d.][^.]*\.)*?(?:layers|h|blocks)\.(\d+)")  # lists nested in a layer are not layers
_NO_TEXT = re.compile("vision|visual|image|audio|speech")  # towers with layers of their own
_IN_BLOCK = r"(?:^|\.)(?:layers?|h|blocks?)[._]?(\d+)(?=\.|$)"
_MLP = re.compile(r"mlp_in\.(\d+) mlp_out\.\1")
_UNKNOWN = "unknown"


def model_name(metadata: Mapping[str, Any]) -> str:
    """The model's name; the model in the box is `othello_gpt`."""
    name = metadata.get("model") or _UNKNOWN
    return "othello_gpt" if name == "shipped" else str(name)


def site_name(metadata: Mapping[str, Any]) -> str:
    """The site, as the store calls it."""
    return str(metadata.get("site") or _UNKNOWN)


def folder_name(metadata: Mapping[str, Any]) -> str:
    """The site as the name of a directory; of a transcoder that stands for an MLP that module, else what it writes."""
    name = site_name(written(metadata))
    if match := _MLP.fullmatch(f"{site_name(read(metadata))} {name}"):
        name = f"layers.{match.group(1)}.mlp"
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip(".") or _UNKNOWN


def read(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata with what is read as the site."""
    return _at(metadata, "reads")


def written(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata with what is written as the site."""
    return _at(metadata, "writes")


def _at(metadata: Mapping[str, Any], side: str) -> dict[str, Any]:
    sites = metadata.get(side)
    return dict(metadata) | ({"site": sites[0]} if sites else {})


def hook_name(metadata: Mapping[str, Any]) -> str:
    """The site as TransformerLens calls it where it has a name there, otherwise as the store does.

    A layer of a vision or audio tower has none: its name would be that of the text's.
    """
    site = site_name(metadata)
    if match := _BLOCK_SITE.fullmatch(site):
        return f"blocks.{match.group(2)}.hook_{match.group(1)}"
    match = _HF_LAYER.fullmatch(site)
    if match and not _NO_TEXT.search(site):  # the output of a Hugging Face decoder layer
        return f"blocks.{match.group(1)}.hook_resid_post"
    return site


def layer(metadata: Mapping[str, Any]) -> int:
    """The number of the block that the site is in; 0 where its name has none, since readers want a number.

    A readable name's own, as in `resid_post.7`; in a module's path the number that follows the list of blocks, as in
    `model.layers.7.mlp.experts.3`; where no list has a usual name the first part that is a number; else the first
    number in the name.
    """
    site = site_name(metadata)
    if match := _BLOCK_SITE.fullmatch(site):
        return int(match.group(2))
    for pattern in (_IN_BLOCK, r"(?:^|\.)(\d+)(?=\.|$)", r"(\d+)"):
        if match := re.search(pattern, site):
            return int(match.group(1))
    return 0


def context_size(metadata: Mapping[str, Any]) -> int | None:
    """Positions of a sequence, where known."""
    return metadata.get("context") or None


def own_record(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What an export keeps under the key `jaxsae`, so that an import finds the metadata as it was."""
    kept = {name: metadata[name] for name in KEPT if isinstance(metadata.get(name), str | int)}
    return {"version": __version__, **kept} | {name: list(metadata[name]) for name in SITES if metadata.get(name)}


def imported(settings: Mapping[str, Any], file_format: str, **found: Any) -> dict[str, Any]:
    """Metadata of an imported dictionary: our own record where there is one, else what was `found`."""
    record = settings.get("jaxsae")
    record = record if isinstance(record, Mapping) else {}
    own = {name: record[name] for name in (*KEPT, *SITES) if name in record}
    return {k: v for k, v in found.items() if v is not None} | own | {"imported_from": file_format}
