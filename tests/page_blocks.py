"""Reads what pages of latents are made of, in Python, as their data.js does."""

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load


def read_block(path: Path) -> tuple[str, dict[str, np.ndarray], Any]:
    """Its key, arrays, and JSON (None where there is none)."""
    key, packed = re.fullmatch(r'receive\("([\w./-]+)", "([A-Za-z0-9+/=]+)"\);\n', path.read_text()).groups()
    plain = gzip.decompress(base64.b64decode(packed))
    header = json.loads(plain[8 : 8 + int.from_bytes(plain[:8], "little")])
    told = header.get("__metadata__", {}).get("json")
    return key, load(plain), told and json.loads(told)


def read_sites(folder: Path) -> dict[str, Any]:
    """What data/sites.js calls `receiveSites` with."""
    return json.loads(re.fullmatch(r"receiveSites\((.*)\);\n", (folder / "data/sites.js").read_text(), re.S)[1])


def read_pages(folder: Path, site: dict[str, Any]) -> list[dict[str, np.ndarray]]:
    """Blocks of the latents shown, in order."""
    count = -(-site["shown"] // site["page"])
    return [read_block(folder / "data" / site["folder"] / f"{i}.js")[1] for i in range(count)]
