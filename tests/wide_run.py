"""A run of any width with random weights, made on the disk a chunk at a time, as Orbax lays a checkpoint out.

python tests/wide_run.py RUN 1048576
/usr/bin/time -v jaxsae export --run=RUN --format=saelens --output=OUT    # "Maximum resident set size"
"""

import json
import sys
import zlib
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import tensorstore as ts

from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.training import save_dictionary

D_MODEL, LIMIT = 768, 2 << 30  # Orbax writes as much of an array as one chunk
_SMALL = 64  # latents of the checkpoint that lends its layout


def make_run(path: Path, width: int, d_model: int = D_MODEL, limit: int = LIMIT) -> None:
    """Writes a `jumprelu`'s run; chunks have at most `limit` bytes."""
    rng = np.random.default_rng(0)
    random = lambda *shape: rng.standard_normal(shape, np.float32) / np.float32(shape[-1] ** 0.5)
    own = {"b_enc": random(_SMALL), "threshold": np.abs(random(_SMALL))}
    small = Params.of(random(_SMALL, d_model), own["b_enc"], random(_SMALL, d_model), random(d_model))
    params = small.replace(latent={name: jnp.asarray(a) for name, a in (small.latent | own).items()})
    about = {"model": "gpt2", "site": "resid_post.8", "context": 128}
    save_dictionary(path, Dictionary(params, MethodConfig(_SMALL, "jumprelu", k=32), about))
    step, sums = path / "checkpoints/0", {}
    for name, array in params.latent.items():
        shape = (width, *array.shape[1:])
        rows = width
        while rows * int(np.prod(shape[1:])) * 4 > limit:
            rows //= 2
        sums[name] = 0
        stored = _empty(step / "dictionary", f"params.latent.{name}", shape, rows)
        for first in range(0, width, rows):
            block = random(min(rows, width - first), *shape[1:])
            block = np.abs(block) if name == "threshold" else block
            stored[first : first + len(block)].write(block).result()
            sums[name] += _sum_of_bits(block, first * int(np.prod(shape[1:])))
    _describe(step / "_CHECKPOINT_METADATA", width, sums)


def _empty(base: Path, name: str, shape: tuple[int, ...], rows: int) -> ts.TensorStore:
    """The array anew, of another shape, in chunks of so many rows."""
    kvstore = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{base}/"}}
    spec = {"driver": "zarr3", "kvstore": kvstore | {"path": f"{name}/"}}
    metadata = ts.open(spec).result().spec().to_json()["metadata"]
    chunk = [rows, *shape[1:]]
    metadata["shape"] = list(shape)
    metadata["chunk_grid"]["configuration"]["chunk_shape"] = chunk
    metadata["codecs"][0]["configuration"]["chunk_shape"] = chunk
    keys = ts.KvStore.open(kvstore).result()
    for key in keys.list(range=ts.KvStore.KeyRange(f"{name}/", f"{name}0")).result():
        keys.write(key, None).result()
    return ts.open(spec | {"metadata": metadata, "create": True}).result()


def _sum_of_bits(block: np.ndarray, place: int, at_once: int = 1 << 22) -> int:
    """As `training/sums.py` has it, of numbers that begin at `place`."""
    total, bits = 0, block.reshape(-1).view(np.uint32)
    for first in range(0, bits.size, at_once):
        part = bits[first : first + at_once]
        odd = 2 * (place + first + np.arange(part.size, dtype=np.uint64)) + 1
        total += int((part * odd.astype(np.uint32)).sum(dtype=np.uint32))
    return total % 2**32


def _describe(path: Path, width: int, sums: dict[str, int]) -> None:
    document = json.loads(path.read_text())
    about = document["custom_metadata"]
    about["method"]["width"] = width
    for key in about["sums"]:
        for name, total in sums.items():
            if key.endswith(f"latent['{name}']"):
                about["sums"][key] = total % 2**32
    about.pop("crc32")
    about["crc32"] = zlib.crc32(json.dumps(about, sort_keys=True).encode())
    path.write_text(json.dumps(document))


if __name__ == "__main__":
    make_run(Path(sys.argv[1]), int(sys.argv[2]))
