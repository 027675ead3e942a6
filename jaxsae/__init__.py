"""jaxsae: very wide sparse autoencoders in JAX, from a model's activations to a dictionary that PyTorch loads.

sae = jaxsae.load(name)                 # a run, an export, a hub id: a Dictionary
latents = sae.encode(x)                 # Latents(values [..., k], indices [..., k])
x_hat = sae.decode(latents)
with jaxsae.hooks.splice(model, sae): ...   # and ablate, steer
store = jaxsae.open_store(url)
jaxsae.train(store=S, workdir=R, width=2048)    # every command, with its flags as arguments
"""

import importlib
import sys
from typing import TYPE_CHECKING

from jaxsae.named import Package as _Package
from jaxsae.named import function as _function
from jaxsae.version import __version__

_HOMES = {
    "Dictionary": "jaxsae.dictionary",
    "InputError": "jaxsae.errors",
    "Latents": "jaxsae.dictionary",
    "TrainConfig": "jaxsae.training",
    "load": "jaxsae.loading",
    "open_store": "jaxsae.store",
}
_MODULES = ("benchmark", "check", "evaluate", "faults", "harvest", "hooks", "inspect", "plan", "quickstart", "report")
_MODULES += ("sweep",)
_FUNCTIONS = {"export": "export", "import_": "import", "train": "train", "train_lm": "train_lm"}
__all__ = [
    "Dictionary",
    "InputError",
    "Latents",
    "TrainConfig",
    "__version__",
    "benchmark",
    "check",
    "evaluate",
    "export",
    "faults",
    "harvest",
    "hooks",
    "import_",
    "inspect",
    "load",
    "open_store",
    "plan",
    "quickstart",
    "report",
    "sweep",
    "train",
    "train_lm",
]

if TYPE_CHECKING:
    from jaxsae.dictionary import Dictionary, Latents
    from jaxsae.errors import InputError
    from jaxsae.loading import load
    from jaxsae.store import open_store
    from jaxsae.training import TrainConfig

    export, import_, train, train_lm = (_function(name) for name in ("export", "import", "train", "train_lm"))

sys.modules[__name__].__class__ = _Package


def __getattr__(name: str):
    # Loaded when first used, so that `jaxsae --help` need not wait for JAX.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"jaxsae.{name}")
    if name in _FUNCTIONS:
        made = globals()[name] = _function(_FUNCTIONS[name])
        return made
    raise AttributeError(f"module 'jaxsae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
