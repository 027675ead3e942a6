"""An Othello GPT and games that nothing was trained on."""

from collections.abc import Iterator, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsae.evaluate import games as play
from jaxsae.evaluate.subject.base import Batch, Rows, Subject
from jaxsae.lm.gpt import GPT, check_sites
from jaxsae.lm.othello import CONTEXT, TOKEN_TO_SQUARE, Games, square_name


class GameSubject(Subject):
    """A GPT and `played` games, of which `positions` are kept; a batch holds `size` of them, the last perhaps fewer.

    Attributes:
      model: the GPT. played: the games. positions: the plies that are kept.
    """

    unit, games = "game", True

    def __init__(self, name: str, model: GPT, played: Games, positions: slice, size: int):
        play.check_plays_othello(model)
        self.name, self.model, self.played, self.positions, self.size = name, model, played, positions, size
        self.vocabulary = model.config.vocabulary
        self.last_site = f"resid_post.{model.config.layers - 1}"
        self.about = {"games": len(played), "positions": [positions.start, positions.stop - 1]}

    @property
    def sequences(self) -> int:
        return len(self.played)

    def batches(self) -> Iterator[Batch]:
        for start in range(0, len(self.played), self.size):
            yield self.batch(self.played[start : start + self.size])

    def batch(self, games: Games) -> Batch:
        """Games as sequences [G, 59]: kept are `positions`, asked all from the first of them; targets are moves played."""
        moves, targets = (games.moves[:, at : at + CONTEXT].astype(np.int32) for at in (0, 1))
        at = np.broadcast_to(np.arange(CONTEXT), moves.shape)
        kept = (at >= self.positions.start) & (at < self.positions.stop)
        return Batch(moves, kept, at >= self.positions.start, targets)

    def read(self, batch: Batch, sites: tuple[str, ...]) -> dict[str, np.ndarray]:
        check_sites(self.model.config, sites, flag="site")
        seen = _read(self.model, _filled(batch.tokens, self.size), sites)
        return {site: np.asarray(x, np.float32)[: len(batch.tokens)][batch.kept] for site, x in seen.items()}

    def logits(self, batch: Batch, at: np.ndarray, replace: Rows | None = None) -> np.ndarray:
        check_sites(self.model.config, tuple(replace or {}), flag="site")
        tokens, kept = _filled(batch.tokens, self.size), _filled(batch.kept, self.size)
        whole = {}
        for site, rows in (replace or {}).items():
            whole[site] = np.zeros((*tokens.shape, rows.shape[1]), np.float32)
            whole[site][kept] = rows
        found = _logits(self.model, tokens, whole, kept)
        return np.asarray(found, np.float32)[: len(batch.tokens)][at]

    def word(self, token: int) -> str:
        return square_name(int(TOKEN_TO_SQUARE[token]))


def _filled(array: np.ndarray, size: int) -> np.ndarray:
    """[size, T] with zeros below, so that one shape is compiled; larger ones stay."""
    return np.pad(array, ((0, max(0, size - len(array))), (0, 0)))


@partial(nnx.jit, static_argnames="sites")
def _read(model: GPT, tokens_BxT: jax.Array, sites: tuple[str, ...]) -> dict[str, jax.Array]:
    return model(tokens_BxT, read=sites)[1]


@nnx.jit
def _logits(model: GPT, tokens_BxT: jax.Array, rows: Mapping[str, jax.Array], kept_BxT: jax.Array) -> jax.Array:
    swap = {site: lambda x, new=new: jnp.where(kept_BxT[..., None], new, x) for site, new in rows.items()}
    return model(tokens_BxT, replace=swap)[0]
