"""A tiny dictionary, a store of sequences, and what fires where, densely."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp
from sparse_latents import sparse

from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.evaluate.config import EvaluateConfig
from jaxsae.evaluate.context import Context
from jaxsae.store import Plan, StoreWriter

D, WIDTH, K, ROWS, SITE = 6, 24, 4, 600, "resid_post.0"


@pytest.fixture
def columns():
    """Sequences of 3 to 40 tokens; one position of each ninth row was not harvested."""
    rng = np.random.default_rng(1)
    lengths = rng.integers(3, 40, 100)
    sequence = np.repeat(np.arange(100) + 7, lengths)[:ROWS]
    position = np.concatenate([np.arange(n) for n in lengths])[:ROWS]
    position += np.cumsum(np.arange(ROWS) % 9 == 8)  # ascends within a sequence, with gaps
    return {"tokens": rng.integers(0, 30, ROWS), "sequence": sequence, "position": position}


@pytest.fixture
def write_store(tmp_path):
    """write(x, columns, sites) -> URL of a finished store."""

    def write(x, columns, sites=(SITE,), name="store", **about) -> str:
        url = str(tmp_path / name)
        writer = StoreWriter(
            url, Plan(rows=len(x), sites=dict.fromkeys(sites, x.shape[1]), shard_rows=256, chunk_rows=64, **about)
        )
        for shard in range(writer.plan.shards):
            a, b = writer.plan.shard_range(shard)
            parts = {site: (x * (i + 1))[a:b] for i, site in enumerate(sites)}
            writer.write_shard(shard, parts, {name: column[a:b] for name, column in columns.items()})
        assert writer.finish()
        return url

    return write


@pytest.fixture
def x():
    return np.random.default_rng(2).standard_normal((ROWS, D)).astype(np.float32)


@pytest.fixture
def make_dictionary():
    """make(metadata...) -> random directions of which K are active."""

    def make(seed=0, width=WIDTH, d=D, **metadata) -> Dictionary:
        rng = np.random.default_rng(seed)
        draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)
        params = Params.of(draw(width, d), 0.3 * draw(width), draw(width, d), draw(d))
        return Dictionary(params, MethodConfig(width=width, k=K), {"site": SITE} | metadata)

    return make


@dataclasses.dataclass(frozen=True)
class Scene:
    """A context, its store's rows, and float64 [R, n] of what fires on them."""

    context: Context
    x: np.ndarray
    columns: dict
    z: np.ndarray


def dense(dictionary: Dictionary, x: np.ndarray) -> np.ndarray:
    """What a TopK dictionary makes of rows."""
    p = {name: np.asarray(a, np.float64) for name, a in (dictionary.params.latent | dictionary.params.shared).items()}
    z = (x - p["b_dec"]) @ p["W_enc"].T + p["b_enc"]
    return np.where(z >= np.sort(z, 1)[:, -dictionary.config.k, None], np.maximum(z, 0), 0)


@pytest.fixture
def scene(x, columns, write_store, make_dictionary):
    """Of a dictionary of which the store's last 500 rows were held out."""
    url = write_store(x, columns, model="m", context=40)
    dictionary = make_dictionary(store=url, holdout_rows=500)
    context = Context(EvaluateConfig(run="nowhere", rows=10_000, batch_size=128), dictionary)
    return Scene(context, x, columns, dense(dictionary, x))


@pytest.fixture
def latents():
    """`sparse` as a matrix of columns."""
    return sp.csc_matrix(sparse())
