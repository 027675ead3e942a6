"""Finds a Hugging Face model: safetensors alone, no code but the library's unless a flag allows it; torch is not needed."""

import dataclasses
from functools import cached_property
from pathlib import Path
from typing import Any

from jaxsae.errors import InputError
from jaxsae.lm import fingerprint, libraries
from jaxsae.lm.tensors import Tensor, tensors_of
from jaxsae.paths import absolute

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
# Their first position is the one after padding's, in a table as long as config.json says: those before it are lost.
_POSITIONS_AFTER_PADDING = (
    "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "camembert", "data2vec-text", "longformer", "mpnet",
    "ibert", "esm",
)  # fmt: skip
_WHOLE, _PARTS = "model.safetensors", "model.safetensors.index.json"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A model that was found, before its weights are read.

    Attributes:
      name: as it was asked for, a directory from the root.
      options: a `HFConfig`.
      config: what config.json says, by the library.
      kind: "causal" predicts the next token, "masked" tokens that were masked.
      tried: why the hub was not asked, empty where it was or need not be.
    """

    name: str
    options: Any
    config: Any
    kind: str
    tried: str

    @property
    def context(self) -> int | None:
        """The most positions that the model takes, None where there is no limit."""
        text = self.config.get_text_config()
        limit = getattr(text, "max_position_embeddings", None)
        if limit is None or text.model_type not in _POSITIONS_AFTER_PADDING:
            return limit
        return limit - (text.pad_token_id or 0) - 1

    @cached_property
    def fingerprint(self) -> str:
        """Tells weights and settings from any others; see `fingerprint.of_checkpoint`.

        Raises:
          InputError: the files are not where the library looks for them, or damaged.
        """
        return fingerprint.of_checkpoint(self.files, self._file("config.json"))

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors of its files, by their names; raises `InputError` where a file is damaged."""
        return tensors_of(self.files, self.name)

    @cached_property
    def files(self) -> list[Path]:
        """The files that its weights are in; raises `InputError` where the library finds none."""
        whole = self._file(getattr(self.config, "transformers_weights", None) or _WHOLE) or self._file(_PARTS)
        if whole is None:
            raise InputError(f"--model={self.name}: neither {_WHOLE} nor {_PARTS} is there.")
        if whole.suffix != ".json":
            return [whole]
        hub = libraries.import_transformers().utils.hub
        parts, _ = hub.get_checkpoint_shard_files(self.name, str(whole), **_revision(self.options))
        return [Path(part) for part in parts]

    def _file(self, name: str) -> Path | None:
        cached_file = libraries.import_transformers().utils.cached_file
        quiet = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
        found = cached_file(self.name, name, **quiet, **_revision(self.options))
        return None if found is None else Path(found)


def find(name: str, options: Any) -> Checkpoint:
    """The model of a hub id or a directory; of its weights only that they are there.

    Args:
      options: a `HFConfig`.

    Raises:
      InputError: it cannot be found, its weights are pickles, it brings code.
    """
    transformers = libraries.import_transformers()
    name = absolute(name)
    local = Path(name).is_dir()
    if not local and libraries.looks_like_a_path(name):
        raise InputError(
            f"--model={name}: no such directory. Name one with config.json and *.safetensors, or a hub id."
        )
    if local:
        _check_directory(Path(name))
    tried = "" if local else libraries.reach_hub()
    try:
        config = transformers.AutoConfig.from_pretrained(name, **common(options))
        return Checkpoint(name, options, config, _kind(name, config), tried)
    except InputError:
        raise
    except Exception as error:  # the library raises a dozen kinds
        raise InputError(explained(name, error, tried)) from None


def common(options: Any) -> dict[str, Any]:
    """What the library is told of every model."""
    return {"trust_remote_code": options.trust_remote_code} | _revision(options)


def _revision(options: Any) -> dict[str, str]:
    return {"revision": options.revision} if options.revision else {}


def _check_directory(path: Path) -> None:
    if not (path / "config.json").is_file():
        raise InputError(f"--model={path}: no config.json in it. Give a directory that `model.save_pretrained` wrote.")
    if any(path.glob("*.safetensors")):
        return
    if pickles := sorted(p.name for pattern in _PICKLES for p in path.glob(pattern)):
        raise InputError(
            f"--model={path}: its weights are {pickles[0]}, which may run code when it is read. Only safetensors are: "
            "load them where you trust them, and model.save_pretrained(DIR) writes safetensors."
        )
    raise InputError(f"--model={path}: no weights (*.safetensors) in it.")


def _kind(name: str, config: Any) -> str:
    """Whether a checkpoint predicts the next token or masked ones."""
    names = " ".join(config.architectures or ())
    if "CausalLM" in names or "LMHead" in names:
        return "causal"
    if "MaskedLM" in names:
        return "masked"
    if not libraries.has_torch():  # with which the library has its lists of them; `lm.decoder` refuses what it has not
        return "causal"
    auto = libraries.import_transformers().models.auto.modeling_auto
    if config.model_type in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
        return "masked"
    if config.model_type in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or getattr(config, "auto_map", None):
        return "causal"
    raise InputError(f"--model={name}: {config.model_type} is no causal and no masked language model.")


def explained(name: str, error: Exception, tried: str) -> str:
    """What an error of the library says of a model, `tried` why the hub was not asked."""
    text = str(error).strip()
    if "trust_remote_code" in text:
        return (
            f"--model={name}: comes with Python code of its own. If you have read it and trust it, add "
            "--trust_remote_code; otherwise take a model that transformers knows."
        )
    if "safetensors" in text and "does not appear" in text:
        return (
            f"--model={name}: has no safetensors, and other formats may run code when read. Ask for a converted one, or "
            "name a revision that has them with --revision."
        )
    if type(error).__name__ == "SafetensorError":
        pointers = [p.name for p in sorted(Path(name).glob("*.safetensors")) if p.stat().st_size < 1024]
        if any(b"git-lfs" in (Path(name) / p).read_bytes() for p in pointers):
            return f"--model={name}: {pointers[0]} is a Git LFS pointer, not the weights. Run `git lfs pull` there."
        return (
            f"--model={name}: its *.safetensors are damaged or cut short ({text}). Get them anew: download the model "
            "again, or model.save_pretrained(DIR) where it is whole."
        )
    reason = text.splitlines()[0] if text else type(error).__name__
    tried = f" Tried: no directory of that name here; {tried}." if tried else ""
    return (
        f"--model={name}: no model could be loaded ({reason}).{tried} Give a directory with config.json and "
        "*.safetensors, such as `huggingface-cli download` or model.save_pretrained(DIR) leaves."
    )
