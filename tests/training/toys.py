"""A store of toy rows, and a small run on it, for the tests that look at which features are found."""

from pathlib import Path

import numpy as np

from jaxsae.dictionary import Dictionary, MethodConfig
from jaxsae.harvest import HarvestConfig, harvest
from jaxsae.training import TrainConfig, load, train


def store_of(folder: Path, x: np.ndarray) -> str:
    """The path of a store of rows x [rows, d]."""
    np.save(folder / "x.npy", x)
    harvest(HarvestConfig(store=str(folder / "store"), source="arrays", input=(str(folder / "x.npy"),)))
    return str(folder / "store")


def trained(store: str, workdir: Path, seed: int, steps: int, method: MethodConfig) -> Dictionary:
    """The dictionary after so many steps of 256 rows on one device."""
    flags = {"batch_size": 256, "tokens": steps * 256, "seed": seed, "mesh": (1, 1), "checkpoint_every": 10**6}
    train(TrainConfig(store=store, workdir=str(workdir), method=method, **flags))
    return load(workdir)
