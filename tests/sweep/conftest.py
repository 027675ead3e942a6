"""A small store of rows with structure, and sweeps over it."""

import numpy as np
import pytest

from jaxsae.config import from_flag_lines
from jaxsae.harvest import HarvestConfig, harvest
from jaxsae.sweep import SweepConfig

D, ROWS = 16, 2048


@pytest.fixture(scope="session")
def rows():
    """float32 [2048, 16]: sparse sums of 32 directions, off centre."""
    rng = np.random.default_rng(0)
    active = rng.random((ROWS, 32)) * (rng.random((ROWS, 32)) < 0.1)
    return (active @ rng.normal(size=(32, D)) + rng.normal(size=D) + 0.05 * rng.normal(size=(ROWS, D))).astype(
        np.float32
    )


@pytest.fixture(scope="session")
def store(rows, tmp_path_factory):
    """URL of a finished store of `rows`; not to be changed."""
    directory = tmp_path_factory.mktemp("rows")
    np.save(directory / "x.npy", rows)
    url, files = str(directory / "store"), (str(directory / "x.npy"),)
    harvest(HarvestConfig(store=url, source="arrays", input=files, shard_rows=256, chunk_rows=32))
    return url


@pytest.fixture
def flags(store, tmp_path):
    """flags(name, width=..., ...) -> lines of a flag file of a small sweep; values may be lists as text."""

    def make(name: str = "sweep", **changes) -> list[str]:
        values = dict(store=store, workdir=tmp_path / name, width=64, k=4, aux_k=8, batch_size=64, tokens=1280)
        values |= dict(learning_rate=0.003, dead_tokens=300, log_every=5, evaluate="reconstruction")
        return [f"--{n}={v}" for n, v in (values | changes).items()]

    return make


@pytest.fixture
def configure(flags):
    """configure(name, ...) -> the SweepConfig of `flags`."""
    return lambda name="sweep", **changes: from_flag_lines(SweepConfig, flags(name, **changes))


@pytest.fixture(scope="session", autouse=True)
def compiled_once(compilation_cache):
    """The same step is compiled once for all runs."""
