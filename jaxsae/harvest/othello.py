"""Activations of a GPT on random legal Othello games.

Each shard is a pure function of the configuration: its games are drawn from (seed, shard), so it can be
written first, last, or again, by any process.
"""

import hashlib
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsae.errors import InputError
from jaxsae.harvest.config import DEFAULT_SITE, HarvestConfig
from jaxsae.harvest.source import Shard, Source
from jaxsae.lm import othello, weights
from jaxsae.lm.gpt import GPT, check_sites
from jaxsae.paths import absolute
from jaxsae.store import Plan

_GAMES_KEY = 0x4A5A  # apart from the games that the GPT was trained on


class OthelloSource(Source):
    """Rows of a harvest of Othello games; one row is one kept position of one game."""

    def __init__(self, config: HarvestConfig):
        """Loads the model.

        Raises:
          InputError: no such model, or a site that it does not have.
        """
        self._config = config
        self._sites = config.sites or (DEFAULT_SITE,)
        self._model = weights.load(config.model)
        check_sites(self._model.config, self._sites)
        shape = self._model.config
        self.plan = Plan(
            rows=config.tokens,
            sites=dict.fromkeys(self._sites, shape.d_model),
            dtype=config.dtype,
            model=config.model if config.model == weights.SHIPPED else absolute(config.model),
            tokenizer="othello",
            vocabulary=shape.vocabulary,
            context=shape.context,
            settings={
                "source": "othello",
                "seed": config.seed,
                "first_position": config.first_position,
                "last_position": config.last_position,
                "weights": _fingerprint(self._model),
            },
            shard_rows=config.shard_rows,
            chunk_rows=config.chunk_rows,
        )
        first, last = config.first_position, config.last_position

        @nnx.jit
        def forward(model: GPT, tokens_BxT: jax.Array) -> dict[str, jax.Array]:
            _, read = model(tokens_BxT, read=self._sites)
            dtype = jnp.dtype(config.dtype)
            return {site: x[:, first : last + 1].astype(dtype) for site, x in read.items()}

        self._forward = forward

    def shard(self, shard: int) -> Shard:
        """Activations {site: [n, d_model]} and columns {name: int32 [n]} of one shard."""
        start, stop = self.plan.shard_range(shard)
        moves, first_game = games_of(self._config, shard, stop - start)
        kept = slice(self._config.first_position, self._config.last_position + 1)
        tokens = moves[:, kept].astype(np.int32)
        positions = np.arange(othello.CONTEXT, dtype=np.int32)[kept]
        columns = {
            "tokens": tokens,
            "sequence": np.broadcast_to(first_game + np.arange(len(moves), dtype=np.int32)[:, None], tokens.shape),
            "position": np.broadcast_to(positions, tokens.shape),
        }
        activations = {site: x.reshape(-1, x.shape[-1])[: stop - start] for site, x in self._run(moves).items()}
        return activations, {name: column.reshape(-1)[: stop - start] for name, column in columns.items()}

    def _run(self, moves: np.ndarray) -> dict[str, np.ndarray]:
        """Activations [G, positions kept, d_model] at each site; the last batch is padded, to compile once."""
        parts: dict[str, list[np.ndarray]] = {site: [] for site in self._sites}
        size = self._config.forward_batch
        for start in range(0, len(moves), size):
            batch = moves[start : start + size, : othello.CONTEXT].astype(np.int32)
            padded = np.pad(batch, ((0, size - len(batch)), (0, 0)))
            for site, x in self._forward(self._model, padded).items():
                parts[site].append(np.asarray(x)[: len(batch)])
        return {site: np.concatenate(x) for site, x in parts.items()}


def games_per_shard(config: HarvestConfig, rows: int) -> int:
    """Games that give at least `rows` rows."""
    return math.ceil(rows / (config.last_position - config.first_position + 1))


def games_of(config: HarvestConfig, shard: int, rows: int) -> tuple[np.ndarray, int]:
    """The games of a shard of `rows` rows.

    Returns:
      moves int8 [G, 60], and the number of the first game, counted over all shards.
    """
    rng = np.random.default_rng([config.seed, shard, _GAMES_KEY])
    games = othello.full_games(games_per_shard(config, rows), rng)
    return games.moves, shard * games_per_shard(config, config.shard_rows)


def model_of(metadata: dict[str, Any]) -> GPT:
    """The GPT that a store was harvested from, out of `Store.metadata(site)`.

    Raises:
      InputError: not a store of Othello games, or the weights of that name have changed since.
    """
    name, settings = metadata.get("model"), metadata.get("settings", {})
    if settings.get("source") != "othello":
        raise InputError(f"The store comes from source {settings.get('source')}, which has no model to run.")
    model = weights.load(name)
    if settings["weights"] != _fingerprint(model):
        raise InputError(f"--model={name}: its weights have changed since the store was harvested. Harvest again.")
    return model


def _fingerprint(model: GPT) -> str:
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:16]
