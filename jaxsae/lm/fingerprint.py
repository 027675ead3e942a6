"""What tells one model's weights from another's: a sum over every bit, wherever they lie and however they are read."""

import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from jaxsae.lm.tensors import Tensor, tensors_of
from jaxsae.progress import Progress

# Of config.json: where it was saved, by what, and how it is to be loaded; nothing of what the model computes.
_NO_PART_OF_A_MODEL = ("_name_or_path", "_commit_hash", "transformers_version", "torch_dtype", "dtype")


def of_checkpoint(files: Iterable[Path], config: Path) -> str:
    """Of a Hugging Face model on disk: each tensor's name, dtype, shape and bytes, and the settings in config.json.

    The same whatever the path, the division into files, and the dtype that the model is then loaded in. Costs one
    reading of the files, which the system has in memory where they were just loaded.

    Args:
      files: `.safetensors`, those that are loaded.
    """
    sums: dict[str, str] = {}
    tensors = tensors_of(files, str(config.parent))
    total = sum(tensor.bytes for tensor in tensors.values())
    with (
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
        Progress(total, "fingerprint of the weights", "B", scale=True) as bar,
    ):

        def add(name: str, tensor: Tensor) -> None:
            data = tensor.mapped().reshape(-1).view(np.uint8)  # mapped: each is read as it is summed
            sums[name] = f"torch.{tensor.dtype} {list(tensor.shape)} {hashlib.sha256(data).hexdigest()}"
            bar.advance(data.nbytes)

        for done in [pool.submit(add, name, tensor) for name, tensor in tensors.items()]:
            done.result()
    text = json.dumps([sorted(sums.items()), _settings(json.loads(config.read_text(encoding="utf-8")))], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _settings(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _settings(v) for name, v in value.items() if name not in _NO_PART_OF_A_MODEL}
    return value
