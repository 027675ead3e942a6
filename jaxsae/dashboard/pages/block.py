"""A block: arrays as a script that a page can load from disk.

A page that is opened from disk may load scripts and may not read files, so data come as calls of one function. What is
called with is base64 of gzip of safetensors: whoever has the folder can read it without the page, and no token in it can
be taken for code.
"""

import base64
import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from jaxsae.files import replace

CALL = "receive"  # the function of data.js
TEXT = "json"  # the name under which a safetensors header holds what is no array


def write_block(path: Path, key: str, arrays: Mapping[str, np.ndarray], text: Mapping[str, Any] | None = None) -> int:
    """Writes arrays and what goes with them in JSON.

    Args:
      key: what the page asks for it by, letters, digits and `./-_` alone.

    Returns:
      bytes written.
    """
    plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    told = None if text is None else {TEXT: json.dumps(text)}
    packed = base64.b64encode(gzip.compress(save(plain, told), 6, mtime=0)).decode()  # mtime: same data, same bytes
    script = f'{CALL}("{key}", "{packed}");\n'.encode()
    replace(path, lambda file: file.write(script))
    return len(script)


def narrow(integers: np.ndarray) -> np.ndarray:
    """The same as int8, int16 or int32, the first that holds them."""
    low, high = (int(integers.min()), int(integers.max())) if integers.size else (0, 0)
    for kind in (np.int8, np.int16):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return integers.astype(kind)
    return integers.astype(np.int32)
