"""A tiny dictionary, a store of sequences, and what fires where, densely."""

import dataclasses

import numpy as np

from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.evaluate.context import Context
from jaxsae.store import Plan, StoreWriter

D, WIDTH, K, ROWS, SITE = 6, 24, 4, 600, "resid_post.0"


@dataclasses.dataclass(frozen=True)
class Scene:
    """A context, its store's rows, and float64 [R, n] of what fires on them."""

    context: Context
    x: np.ndarray
    columns: dict
    z: np.ndarray


def text_columns() -> dict[str, np.ndarray]:
    """Of sequences of 3 to 40 tokens, some positions of which were not harvested."""
    rng = np.random.default_rng(1)
    lengths = rng.integers(3, 40, 100)
    sequence = np.repeat(np.arange(100) + 7, lengths)[:ROWS]
    position = np.concatenate([np.arange(n) for n in lengths])[:ROWS]
    position += np.cumsum(np.arange(ROWS) % 9 == 8)
    return {"tokens": rng.integers(0, 30, ROWS), "sequence": sequence, "position": position}


def random_rows() -> np.ndarray:
    return np.random.default_rng(2).standard_normal((ROWS, D)).astype(np.float32)


def store_of(url, x, columns, sites=(SITE,), **about) -> str:
    """URL of a finished store; site i holds (i + 1) x."""
    writer = StoreWriter(
        url, Plan(rows=len(x), sites=dict.fromkeys(sites, x.shape[1]), shard_rows=256, chunk_rows=64, **about)
    )
    for shard in range(writer.plan.shards):
        a, b = writer.plan.shard_range(shard)
        parts = {site: (x * (i + 1))[a:b] for i, site in enumerate(sites)}
        writer.write_shard(shard, parts, {name: column[a:b] for name, column in columns.items()})
    assert writer.finish()
    return str(url)


def dictionary_of(seed: int = 0, width: int = WIDTH, d: int = D, **metadata) -> Dictionary:
    """Random directions, of which K are active."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    params = Params.of(draw(width, d), 0.3 * draw(width), draw(width, d), draw(d))
    return Dictionary(params, MethodConfig(width=width, k=K), {"site": SITE} | metadata)


def dense(dictionary: Dictionary, x: np.ndarray) -> np.ndarray:
    """float64 [R, n]: what a TopK dictionary makes of rows."""
    p = {name: np.asarray(a, np.float64) for name, a in (dictionary.params.latent | dictionary.params.shared).items()}
    z = (x - p["b_dec"]) @ p["W_enc"].T + p["b_enc"]
    return np.where(z >= np.sort(z, 1)[:, -dictionary.config.k, None], np.maximum(z, 0), 0)
