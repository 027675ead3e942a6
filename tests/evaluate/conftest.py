"""A tiny Othello GPT, small dictionaries and stores, and what a dictionary computes, densely in float64."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from jaxsae.config import write_flag_file
from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.dictionary.parameters import tied_init
from jaxsae.harvest import harvest
from jaxsae.lm import othello, weights
from jaxsae.lm.gpt import GPTConfig, init
from jaxsae.lm.train import cross_entropy
from jaxsae.store import Plan, StoreWriter
from jaxsae.training import TrainConfig, save_dictionary
from jaxsae.training.every import runs_of

D, WIDTH, SITE = 16, 48, "resid_post.0"


@pytest.fixture(scope="session")
def model_path(tmp_path_factory):
    """A file with the weights of a two-block GPT, trained a little so that its activations are worth something."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    model = init(GPTConfig(layers=2, d_model=D, heads=2), seed=5)
    games = othello.full_games(64, np.random.default_rng(0))
    tokens, legal = games.moves[:, :59].astype(np.int32), games.legal_tokens().astype(np.float32)
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        gradients = nnx.grad(lambda model: cross_entropy(model(tokens)[0], legal))(model)
        optimizer.update(model, gradients)

    for _ in range(60):
        step(model, optimizer)
    weights.save(model, path)
    return str(path)


@pytest.fixture(scope="session")
def model(model_path):
    return weights.load(model_path)


@pytest.fixture
def make_dictionary():
    """make(architecture, seed, d_model, metadata...) -> a random dictionary with biases."""

    def make(architecture: str = "topk", seed: int = 0, d_model: int = D, width: int = WIDTH, **metadata) -> Dictionary:
        rng = np.random.default_rng(seed)
        params = tied_init(jax.random.key(seed), width, d_model)
        params = Params.of(
            W_enc=params.W_enc + 0.1 * rng.standard_normal((width, d_model), np.float32),
            b_enc=0.1 * rng.standard_normal(width).astype(np.float32) - (1.0 if architecture == "relu" else 0.0),
            W_dec=0.7 * params.W_dec,
            b_dec=0.3 * rng.standard_normal(d_model).astype(np.float32),
        )
        config = MethodConfig(width=width, architecture=architecture, k=6)
        return Dictionary(params, config, metadata, threshold=1.5 if architecture == "batchtopk" else 0.0)

    return make


@pytest.fixture
def write_store(tmp_path):
    """write(x, name) -> URL of a finished store that holds x at SITE."""

    def write(x: np.ndarray, name: str = "store") -> str:
        url = str(tmp_path / name)
        writer = StoreWriter(url, Plan(rows=len(x), sites={SITE: x.shape[1]}, shard_rows=256, chunk_rows=64))
        for shard in range(writer.plan.shards):
            start, stop = writer.plan.shard_range(shard)
            columns = {name: np.arange(start, stop) for name in ("tokens", "sequence", "position")}
            writer.write_shard(shard, {SITE: x[start:stop]}, columns)
        assert writer.finish()
        return url

    return write


@dataclasses.dataclass(frozen=True)
class Dense:
    """What a dictionary computes on x, with every latent in memory."""

    z: np.ndarray
    x_hat: np.ndarray

    @classmethod
    def of(cls, dictionary: Dictionary, x: np.ndarray) -> "Dense":
        p = jax.tree.map(lambda a: np.asarray(a, np.float64), dictionary.params)
        x, architecture = np.asarray(x, np.float64), dictionary.config.architecture
        z = (x if architecture == "relu" else x - p.b_dec) @ p.W_enc.T + p.b_enc
        if architecture == "batchtopk":
            z = np.where(z > dictionary.threshold, z, 0)
        if architecture == "topk":
            smallest = np.sort(z, 1)[:, -dictionary.config.k]
            z = np.where(z >= smallest[:, None], z, 0)
        z = np.maximum(z, 0)
        return cls(z, z @ p.W_dec + p.b_dec)


@pytest.fixture
def dense():
    return Dense.of


@pytest.fixture
def make_set(make_model, configure, tmp_path):
    """make_set(sites or reads and writes) -> the directory of a set of random dictionaries, as `train` leaves one.

    Of a small Llama of three blocks, whose first 40 stories were harvested; `batchtopk` has thresholds.
    """

    def make(architecture: str = "topk", skip: bool = False, **sites) -> Path:
        layers = [f"{name}.{layer}" for name in ("mlp_in", "mlp_out", "resid_post") for layer in range(3)]
        store = harvest(configure(make_model("llama"), {"documents": "0:40"}, sites=tuple(layers)))
        method = MethodConfig(width=WIDTH, k=6, architecture=architecture, transcode="reads" in sites, skip=skip)
        flags = {"store": store.url, "workdir": str(tmp_path / "set"), "batch_size": 16, "tokens": 16, "method": method}
        config = TrainConfig(**flags | sites)
        Path(config.workdir).mkdir()
        write_flag_file(Path(config.workdir) / "each.flags", config, "train")
        for seed, one in enumerate(runs_of(config, store)):
            rng = np.random.default_rng(seed)
            draw = lambda *shape, rng=rng: rng.standard_normal(shape, np.float32)
            params = Params.of(draw(WIDTH, D), draw(WIDTH) / 3, draw(WIDTH, D) / 10, draw(D) / 10)
            params = Params(params.latent, params.shared | ({"W_skip": draw(D, D) / D} if skip else {}))
            reads, writes = one.reads or (one.site,), one.writes or (one.site,)
            about = {"store": store.url, "source": "hf", "site": "->".join(dict.fromkeys((*reads, *writes)))}
            about |= {"reads": list(reads), "writes": list(writes)} if one.reads else {}
            about |= {"model": store.metadata(reads[0])["model"], "step": one.steps, "holdout_rows": 200}
            threshold = 5.0 if architecture == "batchtopk" else 0.0
            save_dictionary(one.workdir, Dictionary(params, method, about, threshold=threshold))
            write_flag_file(Path(one.workdir) / "config.flags", one, "train")
        return Path(config.workdir)

    return make
