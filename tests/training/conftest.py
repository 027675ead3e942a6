"""A small store of rows with structure, and runs on it."""

import json
import math
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from training.longer import STEPS, bits

from jaxsae import cli
from jaxsae.config import to_flag_lines
from jaxsae.dictionary import MethodConfig
from jaxsae.harvest import HarvestConfig, harvest
from jaxsae.parallel import make_mesh
from jaxsae.store import Plan, StoreWriter
from jaxsae.training import OptimizerConfig, TrainConfig, setup, train
from jaxsae.training.checkpoint import Checkpoints

D, ROWS, BATCH, WIDTH = 16, 2048, 64, 64


@pytest.fixture(scope="session")
def rows():
    """float32 [2048, 16]: sparse sums of 32 directions, off centre."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(32, D))
    active = rng.random((ROWS, 32)) * (rng.random((ROWS, 32)) < 0.1)
    return (active @ directions + rng.normal(size=D) + 0.05 * rng.normal(size=(ROWS, D))).astype(np.float32)


def write_store(directory: Path, x: np.ndarray, dtype: str = "float32") -> str:
    np.save(directory / "x.npy", x)
    url, files = str(directory / f"store_{dtype}"), (str(directory / "x.npy"),)
    harvest(HarvestConfig(store=url, source="arrays", input=files, shard_rows=256, chunk_rows=32, dtype=dtype))
    return url


@pytest.fixture(scope="session")
def store(rows, tmp_path_factory):
    """URL of a finished store of `rows`; not to be changed."""
    return write_store(tmp_path_factory.mktemp("rows"), rows)


@pytest.fixture(scope="session")
def store_of(tmp_path_factory):
    """make({site: float32 [rows, d]}, tokens=None) -> URL of a finished store; columns count the rows, or have `tokens`."""

    def make(rows: dict[str, np.ndarray], tokens: np.ndarray | None = None) -> str:
        url, count = str(tmp_path_factory.mktemp("sites") / "store"), len(next(iter(rows.values())))
        widths = {site: x.shape[1] for site, x in rows.items()}
        plan = Plan(count, widths, settings={"source": "test"}, context=1, shard_rows=256, chunk_rows=32)
        writer = StoreWriter(url, plan)
        for shard in range(plan.shards):
            start, stop = plan.shard_range(shard)
            columns = {name: np.arange(start, stop) for name in ("tokens", "sequence", "position")}
            columns |= {} if tokens is None else {"tokens": tokens[start:stop]}
            writer.write_shard(shard, {site: x[start:stop] for site, x in rows.items()}, columns)
        assert writer.finish()
        return url

    return make


@pytest.fixture
def own_store(rows, tmp_path):
    """make(x=rows, dtype="float32") -> URL of a store that the test may change."""
    return lambda x=rows, dtype="float32": write_store(tmp_path, x, dtype)


@pytest.fixture
def configure(store, tmp_path):
    """configure(name, steps, **flags of any group) -> a TrainConfig that exercises every part of the state."""

    def make(name: str = "run", steps: int = 12, **flags) -> TrainConfig:
        method = {"width": WIDTH, "k": 4, "aux_k": 8} | {n: flags.pop(n) for n in ("width", "k", "aux_k") if n in flags}
        optimization = {"optimizer": "adam", "learning_rate": 3e-3}
        optimization |= {
            n: flags.pop(n) for n in ("optimizer", "learning_rate", "clip_norm", "lazy_rows") if n in flags
        }
        defaults = {
            "store": store,
            "workdir": str(tmp_path / name),
            "batch_size": BATCH,
            "tokens": steps * BATCH,
            "mesh": (2, 4),
            "dead_tokens": 300,
            "ema_decay": 0.9,
            "checkpoint_every": 4,
            "log_every": 1,
            "method": MethodConfig(**method),
            "optimization": OptimizerConfig(**optimization),
        }
        return TrainConfig(**defaults | flags)

    return make


@pytest.fixture(scope="session", autouse=True)
def compiled_once(compilation_cache):
    """The same step is compiled once for all runs."""


@pytest.fixture(autouse=True)
def any_mesh(monkeypatch):
    """Lets a run have a mesh of fewer devices than there are."""
    monkeypatch.setattr(setup, "make_mesh", lambda shape: make_mesh(shape, jax.devices()[: math.prod(shape) or None]))


@pytest.fixture
def refused(capsys):
    """refused(config, *flags) -> what `jaxsae train` says as it refuses them, with exit status 2."""

    def run(config: TrainConfig, *more: str) -> str:
        capsys.readouterr()
        assert cli.run(["train", *to_flag_lines(config), *more]) == 2
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("jaxsae train: ")]
        assert len(said) == 1
        return said[0]

    return run


@pytest.fixture
def newest_state():
    """newest_state(config) -> (step, TrainState of NumPy arrays) of the run's newest checkpoint."""

    def read(config: TrainConfig):
        with Checkpoints(Path(config.workdir) / "checkpoints", config.keep_checkpoints) as checkpoints:
            step = checkpoints.latest
            return step, jax.tree.map(np.asarray, checkpoints.restore(step, setup.Setup.of(config).abstract))

    return read


@pytest.fixture
def metrics():
    """metrics(config) -> lines of metrics.jsonl, without the speed."""

    def read(config: TrainConfig) -> list[dict]:
        lines = (Path(config.workdir) / "metrics.jsonl").read_text().splitlines()
        return [{n: v for n, v in json.loads(line).items() if n != "tokens_per_second"} for line in lines]

    return read


@pytest.fixture
def assert_same():
    """assert_same(a, b): two states are equal bit by bit."""

    def check(a, b) -> None:
        jax.tree_util.tree_map_with_path(lambda p, x, y: np.testing.assert_array_equal(x, y, err_msg=str(p)), a, b)

    return check


@pytest.fixture
def resumed(newest_state, assert_same):
    """resumed(make) -> (TrainConfig, last state) of a run of 12 steps, `make(run, mesh=(1, 1))`, that went on from step 8:
    the bits are those of one that was not cut."""

    def run(make):
        whole, cut = (make(name, mesh=(1, 1)) for name in ("whole", "cut"))
        train(whole)
        shutil.copytree(whole.workdir, cut.workdir)
        shutil.rmtree(Path(cut.workdir, "checkpoints", "12"))
        train(cut)
        (step, state), (_, expected) = newest_state(cut), newest_state(whole)
        assert step == 12
        assert_same(state, expected)
        return cut, state

    return run


@pytest.fixture
def short(configure):
    """`configure` of the conftest, of runs on one device."""
    return lambda name="run", **flags: configure(name, **{"mesh": (1, 1), **flags})


_made: dict[int, tuple[TrainConfig, tuple]] = {}  # steps -> a complete run of so many, begun with STEPS, and its bits


@pytest.fixture
def made(short, tmp_path_factory):
    """made(steps) -> (configuration, bits) of a complete run that was begun with STEPS, from nothing; made once."""

    def make(steps):
        if steps not in _made:
            first = {} if steps == STEPS else {"first_tokens": STEPS * BATCH}
            config = short(workdir=str(tmp_path_factory.mktemp("made") / "run"), steps=steps, **first)
            train(config)
            _made[steps] = config, bits(config)
        return _made[steps]

    return make


@pytest.fixture
def complete(short, made):
    """complete(name) -> a run of STEPS steps of the test's own, complete."""

    def copy(name="run"):
        shutil.copytree(made(STEPS)[0].workdir, short(name).workdir)
        return short(name, steps=STEPS)

    return copy
