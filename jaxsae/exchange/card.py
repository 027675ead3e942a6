"""A model card made from a run: what the dictionary is, its figures, how it was trained, how it is loaded, what it is not."""

import os
from collections.abc import Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from jaxsae.config import from_dict, leaves, read_flag_file, to_dict, to_flag_lines
from jaxsae.dictionary import Dictionary
from jaxsae.errors import InputError
from jaxsae.exchange.card_figures import sections
from jaxsae.exchange.exported import Exported
from jaxsae.exchange.publish_names import MARK, flag_line, is_local, last_part
from jaxsae.store import open_store
from jaxsae.training.config import TrainConfig
from jaxsae.training.run import FLAGS, SET_FLAGS
from jaxsae.version import __version__

LIBRARIES = {  # as Hugging Face calls them
    "saelens": "saelens",
    "sparsify": "sparsify",
    "dictionary_learning": "dictionary_learning",
    "circuit_tracer": "circuit-tracer",
    "gemma_scope": "saelens",
    "safetensors": "jaxsae",
}
_NAMES = {
    "saelens": "SAELens'",
    "sparsify": "sparsify's",
    "dictionary_learning": "dictionary_learning's",
    "circuit_tracer": "circuit-tracer's",
    "gemma_scope": "Gemma Scope 2's",
    "safetensors": "plain safetensors",
}
LIMITS = (
    "A dictionary is judged on the model, the site and the text above, and nothing is known of others. That it reconstructs "
    "well does not say that its latents mean something, nor that the model uses them; another seed finds other latents."
)


def card(
    exported: Sequence[Exported], whole: Path | None, file_format: str, dtype: str, repo: str, licence: str, code: str
) -> str:
    """The text of a model card, in Markdown under Hugging Face's front matter.

    Args:
      whole: the set that they are of, where they are several. dtype: of matrices. repo: OWNER/NAME. licence: of the weights,
        in Hugging Face's words; "": none is said. code: what loads the export, where the variable `path` has its folder.
    """
    first = exported[0].dictionary
    model, texts = _model(first), _texts(exported[0])
    lines = [_front_matter(exported, file_format, model, texts, licence), _title(exported, model), ""]
    lines += [_is(exported, model, file_format, dtype), "", *_facts(exported, model, texts)]
    if whole is not None:
        lines += sections(whole, None, None)
    for one in exported:
        if len(exported) > 1:
            lines += [f"## {one.folder or _site(one.dictionary)}", ""]
        lines += _figures(one, "##" if len(exported) == 1 else "###")
    lines += ["## Loading it", "", "```python", *_loading(repo, code), "```", ""]
    lines += [f"{MARK} `jaxsae import --input={repo} --output=RUN`.", ""]
    lines += [*_training(exported[0], whole), "## Limits", "", LIMITS, "", "## Licence", "", _licence(licence), ""]
    return "\n".join(lines)


def _front_matter(exported: Sequence[Exported], file_format: str, model: str, texts: list[str], licence: str) -> str:
    from huggingface_hub import ModelCardData

    config = exported[0].dictionary.config
    kind = exported[0].dictionary.kind.replace(" ", "-")
    tags = [kind, config.architecture, "mechanistic-interpretability", "jaxsae"]
    data = ModelCardData(
        license=licence or None,
        library_name=LIBRARIES[file_format],
        tags=tags,
        base_model=model if "/" in model else None,
        datasets=[text for text in texts if "/" in text] or None,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _title(exported: Sequence[Exported], model: str) -> str:
    first = exported[0].dictionary
    where = _site(first) if len(exported) == 1 else f"{len(exported)} sites"
    return f"# {first.kind[0].upper()}{first.kind[1:]}{'s' if len(exported) > 1 else ''} of {where} of {model}"


def _is(exported: Sequence[Exported], model: str, file_format: str, dtype: str) -> str:
    first, config = exported[0].dictionary, exported[0].dictionary.config
    told = f", k {config.told_k:g}" if config.told_k else ""
    many = f"{len(exported)} dictionaries, each with" if len(exported) > 1 else "A dictionary with"
    numbers = f"{first.d_model:,} numbers" + (f" read, {first.widths.d_out:,} written" if config.transcode else "")
    return (
        f"{many} {first.width:,} latents of {numbers} (`{config.architecture}`{told}), of activations of "
        f"{model}. The files are {_NAMES[file_format]}; matrices are {dtype}. The means and scales that training saw are "
        "folded in: it takes activations as the model has them."
    )


def _facts(exported: Sequence[Exported], model: str, texts: list[str]) -> list[str]:
    about = exported[0].dictionary.metadata
    rows = {
        "model": f"`{model}`",
        "site": ", ".join(f"`{_site(one.dictionary)}`" for one in exported),
        "activations of": ", ".join(f"`{text}`" for text in texts) or _source(about),
        "tokens of a sequence": about.get("context"),
        "tokens trained on": f"{about['tokens']:,}" if isinstance(about.get("tokens"), int) else None,
        "rows in the store": f"{about['store_rows']:,}" if about.get("store_rows") else None,
        "rows held out": f"{about['holdout_rows']:,}" if about.get("holdout_rows") else None,
        "seed": about.get("seed"),
        "imported from": about.get("imported_from"),
    }
    told = [f"| {name} | {value} |" for name, value in rows.items() if value not in (None, "")]
    return ["| | |", "| --- | --- |", *told, ""]


def _figures(one: Exported, heading: str) -> list[str]:
    if not one.is_newest:
        step = one.dictionary.metadata.get("step")
        return [f"No figures: those of its run are of its last checkpoint, and this is that of step {step}.", ""]
    found = sections(one.home, one.dictionary.metadata.get("tokens"), one.k, heading)
    return found or ["Nothing was measured of it: `jaxsae evaluate` does.", ""]


def _training(one: Exported, whole: Path | None) -> list[str]:
    """The command that trained the run, without what is a default; of an imported dictionary that it is one."""
    path = one.home / FLAGS if whole is None else whole / SET_FLAGS
    lines = ["## How it was trained", ""]
    if not path.is_file():
        return [*lines, "Elsewhere: it was imported into jaxsae, and nothing is known of its training.", ""]
    try:
        config = read_flag_file(path, TrainConfig)
    except InputError:
        return [*lines, f"By an older jaxsae, whose {path.name} this one cannot read.", ""]
    needed = {field.name for field, _ in leaves(TrainConfig) if field.default is MISSING}
    default = from_dict(TrainConfig, {name: value for name, value in to_dict(config).items() if name in needed})
    same = {line for line in to_flag_lines(default) if line.partition("=")[0][2:] not in {*needed, "architecture"}}
    given = [flag_line(line) for line in to_flag_lines(config) if line not in same]
    command = " \\\n  ".join(["jaxsae train", *map(_quoted, given)])
    says = f"Flags that are not named had the defaults of jaxsae {__version__}; places are named by their last part."
    return [*lines, "```bash", command, "```", "", says, ""]


def _quoted(line: str) -> str:
    return f"'{line}'" if set(line) & set(' *?[]()<>|&;$"') else line


def _loading(repo: str, code: str) -> list[str]:
    return ["from huggingface_hub import snapshot_download", f'path = snapshot_download("{repo}")', code]


def _licence(licence: str) -> str:
    own = "The model and the text have licences of their own."
    return f"Of these weights: {licence}. {own}" if licence else f"None was said of these weights. {own}"


def _model(dictionary: Dictionary) -> str:
    name = dictionary.metadata.get("model") or "an unknown model"
    return "the Othello GPT in jaxsae's box" if name == "shipped" else last_part(str(name))


def _site(dictionary: Dictionary) -> str:
    return str(dictionary.metadata.get("site") or "an unknown site")


def _source(metadata: dict[str, Any]) -> str:
    return "random games of Othello" if metadata.get("source") == "othello" else "not recorded"


def _texts(one: Exported) -> list[str]:
    """The text that was read: hub ids as they are, files by name; as the store says, where it still is there."""
    metadata = one.dictionary.metadata
    found = metadata.get("text")
    if found is None and metadata.get("store") and os.path.isdir(metadata["store"]):
        try:
            store = open_store(metadata["store"])
            found = store.metadata(store.sites[0]).get("settings", {}).get("text")
        except InputError:
            found = None
    return [last_part(text) if is_local(text) else text for text in found or []]
