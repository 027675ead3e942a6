"""Small dictionaries and stores of the tests of the Python interface."""

from pathlib import Path

import numpy as np

from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.dictionary.parameters import from_own_layer_on
from jaxsae.harvest import HarvestConfig, harvest

D, WIDTH = 12, 64
ARCHITECTURES = ("topk", "batchtopk", "relu", "jumprelu", "gated", "abstopk")


def make_dictionary(
    architecture: str = "topk",
    d: int = D,
    width: int = WIDTH,
    seed: int = 0,
    transcode: bool = False,
    layers: int = 1,
    site_widths: tuple[int, ...] = (),
    **metadata,
) -> Dictionary:
    """A random dictionary, of which a row has some active latents and never all."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.standard_normal(shape, np.float32)
    own = {
        "jumprelu": {"threshold": np.abs(draw(width)) + 1},
        "gated": {"r_mag": 0.1 * draw(width), "b_mag": draw(width)},
    }
    arrays = draw(width, d), 0.1 * draw(width) - 1, draw(width, d * layers) / 3, 0.1 * draw(d * layers)
    if layers > 1:  # as training leaves it: none of a layer before its own
        arrays[2][:] = from_own_layer_on(arrays[2], 0, layers)
    params = Params.of(*arrays, **own.get(architecture, {}))
    config = MethodConfig(
        width=width, architecture=architecture, k=5, transcode=transcode, layers=layers, site_widths=site_widths
    )
    return Dictionary(params, config, metadata, threshold=4.0 if architecture == "batchtopk" else 0.0)


def write_store(directory: Path, rows: np.ndarray, site: str = "resid_post.1") -> str:
    """URL of a finished store of `rows`."""
    np.save(directory / "rows.npy", rows)
    url = str(directory / "store")
    harvest(
        HarvestConfig(
            store=url, source="arrays", input=(f"{site}={directory / 'rows.npy'}",), shard_rows=128, chunk_rows=32
        )
    )
    return url
