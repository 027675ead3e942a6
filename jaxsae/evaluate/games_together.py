"""Dictionaries of several sites in the Othello GPT at once, each of which sees what those before it made of the stream."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsae.errors import InputError
from jaxsae.evaluate import games as play
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.splice import whole
from jaxsae.evaluate.splice_figures import STAND_INS, log_softmax
from jaxsae.evaluate.splice_measure import Measured
from jaxsae.evaluate.splice_stand_ins import ERROR_NODES
from jaxsae.lm.gpt import GPT, check_sites
from jaxsae.lm.othello import CONTEXT, loss_floor
from jaxsae.progress import Progress
from jaxsae.store.statistics import Moments

Rows = Callable[[np.ndarray], np.ndarray]  # of rows [N, d] those that stand in their place


class GamesTogether:
    """The dictionaries of some contexts, in the order in which the model comes to their sites, and the games of `splice`."""

    def __init__(self, contexts: Sequence[Context]):
        """Opens the model.

        Raises:
          InputError: dictionaries that write another site than they read; no Othello model, or one without their sites.
        """
        first = contexts[0]
        if several := next((c for c in contexts if c.reads != c.writes or len(c.writes) > 1), None):
            raise InputError(
                f"--suite=splice: {several.config.run} is a {several.dictionary.kind}, and in the Othello GPT dictionaries "
                "of one site are spliced. Leave splice out."
            )
        self._model, self._positions, self._config = first.model, first.positions, first.config
        play.check_plays_othello(self._model)
        self.sites = [context.site for context in contexts]
        check_sites(self._model.config, self.sites, flag="site")
        self._dictionaries = {context.site: context.dictionary for context in contexts}
        self._means = {context.site: context.mean for context in contexts}
        self._about: dict[str, Any] = {}

    def measure(self, what: str) -> Measured:
        """Sums over each game's plies, of the model as it is and with each stand-in at the first 1, 2, ... sites, by the last
        of these; and with error nodes at all of them."""
        config = self._config
        games = play.held_out_games(config.games, config.seed, play.SPLICE)
        legal, measured = games.legal_tokens(), slice(self._positions.start, CONTEXT)
        columns: dict[Any, list[np.ndarray]] = {}
        originals, squares, moments = [], dict.fromkeys(self.sites, 0.0), {site: [] for site in self.sites}
        with Progress(len(games), what, "game") as bar:
            for at, moves in play.batches(games, config.games_per_batch):
                count = at.stop - at.start
                logits, seen = _pass(self._model, moves, {}, self._kept(moves), tuple(self.sites))
                originals.append(np.asarray(logits)[:count])
                losses = _Losses(originals[-1][:, measured], legal[at, measured])
                _put(columns, {("ce", "original"): losses.original, "count": np.full(count, losses.plies)})
                for name, functions in self._stand_ins().items():
                    for site, spliced in self._stacked(moves, functions):
                        _put(columns, losses.beside(np.asarray(spliced)[:count, measured], site, name))
                nodes, played = {}, count * (self._positions.stop - self._positions.start)
                for site, x in seen.items():
                    rows = self._kept_rows(x)
                    error = rows - self._reconstructed(site, rows)
                    nodes[site] = partial(self._with_error, site, error)
                    squares[site] += float(np.square(error[:played], dtype=np.float64).sum())
                    moments[site].append(Moments.of(rows[:played]))
                *_, (_, last) = self._stacked(moves, nodes)
                _put(columns, losses.beside(np.asarray(last)[:count, measured], ERROR_NODES, "spliced"))
                bar.advance(count)
        spread = {site: Moments.merged(parts).squares.sum() for site, parts in moments.items()}
        self._about = {
            "games": len(games),
            "positions": {"replaced": _ends(self._positions), "measured": _ends(measured)},
            "floor": loss_floor(legal[:, measured]),
            "whole_games": whole(np.concatenate(originals), legal),
            "held_out": True,
        }
        shares = {site: squares[site] / spread[site] if spread[site] > 0 else None for site in self.sites}
        return Measured({key: np.concatenate(parts) for key, parts in columns.items()}, shares)

    def about(self, measured: Measured) -> dict[str, Any]:
        """What the figures are figures of."""
        return {"tokens": measured.tokens} | self._about

    def _kept(self, moves: np.ndarray) -> np.ndarray:
        kept = np.zeros(moves.shape, bool)
        kept[:, self._positions] = True
        return kept

    def _kept_rows(self, x: jax.Array) -> np.ndarray:
        """float32 [B * plies replaced, d]."""
        return np.asarray(x, np.float32)[:, self._positions].reshape(-1, x.shape[-1])

    def _stand_ins(self) -> dict[str, dict[str, Rows]]:
        """{stand-in: {site: what makes its rows}}."""
        makers = (
            lambda site: partial(self._reconstructed, site),
            lambda site: np.zeros_like,
            lambda site: lambda x: np.broadcast_to(self._means[site], x.shape),
        )
        return {n: {site: make(site) for site in self.sites} for n, make in zip(STAND_INS, makers, strict=True)}

    def _reconstructed(self, site: str, x: np.ndarray) -> np.ndarray:
        return np.asarray(self._dictionaries[site].reconstruct(x))

    def _with_error(self, site: str, error: np.ndarray, x: np.ndarray) -> np.ndarray:
        return self._reconstructed(site, x) + error

    def _stacked(self, moves: np.ndarray, functions: Mapping[str, Rows]) -> Iterator[tuple[str, jax.Array]]:
        """(site, logits [B, 59, vocabulary] with rows replaced there and at all sites before it), site by site."""
        kept, given = self._kept(moves), {}
        seen = _pass(self._model, moves, given, kept, (self.sites[0],))[1]
        for site, following in zip(self.sites, [*self.sites[1:], None], strict=True):
            rows = self._kept_rows(seen[site])
            given = given | {site: np.zeros(seen[site].shape, np.float32)}
            given[site][kept] = functions[site](rows)
            logits, seen = _pass(self._model, moves, given, kept, (following,) if following else ())
            yield site, logits


class _Losses:
    """Of a batch of games, against the uniform distribution over legal moves: the model as it is, and others beside it."""

    def __init__(self, logits_GxPxV: np.ndarray, legal_GxPxV: np.ndarray):
        self._log = log_softmax(logits_GxPxV)
        self._chance, self._pick = np.exp(self._log), self._log.argmax(-1)
        self._target = legal_GxPxV / legal_GxPxV.sum(-1, keepdims=True)
        self.plies = legal_GxPxV.shape[1]
        self.original = self._ce(self._log)

    def _ce(self, log: np.ndarray) -> np.ndarray:
        return -(self._target * log).sum((1, 2))

    def beside(self, logits: np.ndarray, name: str, stand_in: str) -> dict[Any, np.ndarray]:
        """{(figure, name, stand-in): sums [G]}."""
        log = log_softmax(logits)
        kl = (self._chance * (self._log - log)).sum((1, 2))
        same = (log.argmax(-1) == self._pick).sum(1)
        return {("ce", name, stand_in): self._ce(log), ("kl", name, stand_in): kl, ("same", name, stand_in): same}


def _put(columns: dict[Any, list[np.ndarray]], found: Mapping[Any, np.ndarray]) -> None:
    for key, values in found.items():
        columns.setdefault(key, []).append(values)


def _ends(positions: slice) -> list[int]:
    return [positions.start, positions.stop - 1]


@partial(nnx.jit, static_argnames="read")
def _pass(
    model: GPT, tokens_BxT: jax.Array, rows: Mapping[str, jax.Array], kept_BxT: jax.Array, read: tuple[str, ...]
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Logits and what stands at the sites of `read`, with `rows` [B, T, d] in their places at the positions kept."""
    swap = {site: lambda x, new=new: jnp.where(kept_BxT[..., None], new, x) for site, new in rows.items()}
    return model(tokens_BxT, read=read, replace=swap)
