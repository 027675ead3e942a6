"""jaxsae: very wide sparse autoencoders in JAX, from a model's activations to a dictionary that PyTorch loads.

store = jaxsae.open_store(url)
sae = jaxsae.load(run)                  # a Dictionary
latents = sae.encode(x)                 # Latents(values [B, k], indices [B, k])
x_hat = sae.decode(latents)
jaxsae.train(config)                    # what `jaxsae train` calls
"""

import importlib
from typing import TYPE_CHECKING

from jaxsae.version import __version__

_HOMES = {
    "Dictionary": "jaxsae.dictionary",
    "Latents": "jaxsae.dictionary",
    "open_store": "jaxsae.store",
    "load": "jaxsae.training",
    "train": "jaxsae.training",
    "TrainConfig": "jaxsae.training",
}
__all__ = ["Dictionary", "Latents", "TrainConfig", "__version__", "load", "open_store", "train"]

if TYPE_CHECKING:
    from jaxsae.dictionary import Dictionary, Latents
    from jaxsae.store import open_store
    from jaxsae.training import TrainConfig, load, train


def __getattr__(name: str):
    # Loaded when first used, so that `jaxsae --help` need not wait for JAX.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'jaxsae' has no attribute {name!r}")
