"""Python that reads plain safetensors and encodes with them, for the dictionary at hand and with torch alone."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_LATENTS = {
    "topk": 'top = pre.topk(config["k"])\nz = torch.zeros_like(pre).scatter(-1, top.indices, top.values.relu())',
    "abstopk": 'top = pre.abs().topk(config["k"]).indices\nz = torch.zeros_like(pre).scatter(-1, top, pre.gather(-1, top))',
    "jumprelu": 'z = pre * (pre > p["threshold"])',
    "gated": 'z = (p["r_mag"].exp() * (pre - p["b_enc"]) + p["b_mag"]).relu() * (pre > 0)',
    "relu": "z = pre.relu()",
}


def code(folder: Path, config: Mapping[str, Any], sharded: bool) -> str:
    """Lines that load the files of `folder` and reconstruct rows `x`, a tensor [rows, d_in]."""
    lines = ["import json, torch", "from pathlib import Path", "from safetensors.torch import load_file"]
    lines += [f"folder = Path({json.dumps(str(folder))})", 'config = json.loads((folder / "config.json").read_text())']
    if sharded:
        lines += ['index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]']
        lines += ["p = {}", "for file in sorted(set(index.values())):", "    p |= load_file(folder / file)"]
    else:
        lines += ['p = load_file(folder / "model.safetensors")']
    lines += ["p = {name: array.float() for name, array in p.items()}"]
    read = 'x - p["b_dec"]' if config["apply_b_dec_to_input"] else "x"
    layers = config["layers"]
    if layers > 1:  # latent i reads layer i mod layers
        lines += [
            f'pre = torch.stack([rows @ p["W_enc"][:, i::{layers}] for i, rows in enumerate(x.chunk({layers}, 1))], -1)'
        ]
        lines += ['pre = pre.flatten(1) + p["b_enc"]']
    else:
        lines += [f'pre = ({read}) @ p["W_enc"] + p["b_enc"]' if read != "x" else 'pre = x @ p["W_enc"] + p["b_enc"]']
    lines += [_LATENTS[config["activation"]]]
    lines += ['x_hat = z @ p["W_dec"] + p["b_dec"]' + (' + x @ p["W_skip"].T' if config["skip"] else "")]
    return "\n".join(lines)
