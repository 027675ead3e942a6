"""How many latents it takes to turn a state into another, against how many probe directions.

The m latents, or the coordinates along m orthonormal directions, are set to their means over rows with the wanted state, or
shifted by how far the means of both states lie apart,

    set:    x' = x + t sum_i (E[f_i | wanted] - f_i) W_dec,i               x' = x + t U U^T (E[x | wanted] - x)
    shift:  x' = x + t sum_i (E[f_i | wanted] - E[f_i | other]) W_dec,i    x' = x + t U U^T (E[x | wanted] - E[x | other])

the error and all else kept. Which of both, the strength t, and which latents, are chosen on contexts of their own: what does
most at a price of --causal_price at most, since a change that wrecks all predictions turns any state a little. Latents come
by how far their means lie apart times their lengths, and, of those foremost by that, by what shifting each alone does.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxsae.evaluate.causal import probes
from jaxsae.evaluate.causal.contexts import Contexts, share
from jaxsae.evaluate.causal.task import Scored, Task
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.effects import Decoder
from jaxsae.progress import Progress

SIZES = (1, 2, 4, 8, 16, 32)
SET, SHIFT = "set", "shift"
MOVES = (*((SET, t) for t in (1.0, 2.0, 4.0)), *((SHIFT, t) for t in (2.0, 4.0, 8.0, 16.0)))
ALONE = SHIFT, 8.0  # of a latent that is tried alone
BUDGETS = (0.01, 0.03, 0.1, 0.3)  # nats of KL among other tokens at which effects are compared
SWEPT = {
    "1 probe direction": ("probes", 1),
    "difference of means": ("mean_difference", 1),
    "1 latent": ("latents_by_effect", 1),
    "8 latents": ("latents_by_effect", 8),
}
CANDIDATES = 32  # latents that are tried alone
_KEY = 0x3ED1

Move = tuple[str, float]
Change = Callable[[Contexts, int, Move], np.ndarray]  # contexts, m, how far -> rows [R, d_out] to stand there


@dataclasses.dataclass(frozen=True)
class Ways:
    """{name: change}, the latents by order, and how well each successive probe told the states apart."""

    changes: dict[str, Change]
    orders: dict[str, np.ndarray]
    right: list[float]


def figures(context: Context, task: Task) -> dict[str, Any]:
    """Moves the test contexts by `SIZES` latents and directions, and by some of them over all `MOVES`.

    Returns:
      `contexts`, `tuned_on`, `fitted_rows`, `most_price`, `base` {errors}, `curves` {way: [{m, move, strength, share,
      interval, price, spill, errors}]}, `mean_difference` (the same of that one direction), `like_probe` (the fewest
      latents that do as much as one probe direction; None where none do), `probe_right`, `foremost` (latents by effect),
      `sweeps` {way: [{move, strength, share, ...}]} and `at_price` {way: [share within each of `budgets`]}.
    """
    ways, seed, most = _ways(context, task), context.config.seed, context.config.causal.causal_price
    ways.changes["mean_difference"] = _along(task, _mean_difference(task))
    curves: dict[str, list[dict[str, Any]]] = {}
    with Progress(len(ways.changes) * len(SIZES) + len(SWEPT), "causal, mediation", "change") as bar:
        for name, change in ways.changes.items():
            curves[name] = []
            for m in SIZES if name != "mean_difference" else (1,):
                best = _best({move: _scored(task, change, m, move, "tune") for move in MOVES}, most)
                found = _told(_scored(task, change, m, best, "test"), seed)
                curves[name].append({"m": m, "move": best[0], "strength": best[1]} | found)
                bar.advance(1)
        sweeps = {}
        for name, (way, m) in SWEPT.items():
            told = {move: _told(_scored(task, ways.changes[way], m, move, "test"), seed) for move in MOVES}
            sweeps[name] = [{"move": kind, "strength": t} | found for (kind, t), found in told.items()]
            bar.advance(1)
    by_means = curves.pop("mean_difference")[0]
    probe = curves["probes"][0]["share"]
    counts = [part["m"] for part in curves["latents_by_effect"] if (part["share"] or 0) >= (probe or np.inf)]
    untouched = task.test_score(task.test.logits, task.test.logits, np.zeros(len(task.test)))
    return {
        "contexts": len(task.test),
        "tuned_on": len(task.tune),
        "fitted_rows": len(task.fitted.y),
        "most_price": most,
        "base": {"errors": _mean(untouched.errors)},
        "curves": curves,
        "mean_difference": by_means,
        "like_probe": counts[0] if counts else None,
        "probe_right": ways.right,
        "larger_class": float(max(task.fitted.wanted.mean(), 1 - task.fitted.wanted.mean())),
        "foremost": [int(i) for i in ways.orders["latents_by_effect"][:10]],
        "sweeps": sweeps,
        "budgets": BUDGETS,
        "at_price": {name: [_at(sweep, budget) for budget in BUDGETS] for name, sweep in sweeps.items()},
    }


def _best(told: dict[Move, Scored], most: float) -> Move:
    """What does most at a price of `most` at most; the cheapest where all cost more."""
    price = {move: _mean(found.price) for move, found in told.items()}
    able = [move for move in told if price[move] <= most]
    return max(able, key=lambda move: told[move].gain.sum()) if able else min(told, key=price.get)


def _scored(task: Task, change: Change, m: int, move: Move, on: str) -> Scored:
    contexts, score = (task.tune, task.tune_score) if on == "tune" else (task.test, task.test_score)
    return score(contexts.logits, *contexts.changed(change(contexts, m, move)))


def _told(found: Scored, seed: int) -> dict[str, Any]:
    value, ends = share(found.gain, found.whole, seed)
    return {
        "share": value,
        "interval": ends,
        "price": _mean(found.price),
        "spill": _mean(found.spill),
        "errors": _mean(found.errors),
    }


def _mean(values: np.ndarray | None) -> float | None:
    return None if values is None or not len(values) else float(values.mean())


def _at(sweep: list[dict[str, Any]], budget: float) -> float:
    """The largest share at a price of a budget at most, between the strengths about it, from 0 at 0."""
    best = 0.0
    for kind in (SET, SHIFT):
        before = (0.0, 0.0)
        for part in (part for part in sweep if part["move"] == kind and part["share"] is not None):
            now = part["price"], part["share"]
            if now[0] > budget:
                best = max(best, float(np.interp(budget, (before[0], now[0]), (before[1], now[1]))))
                break
            best, before = max(best, now[1]), now
    return best


def _ways(context: Context, task: Task) -> Ways:
    decoder, fitted = Decoder(context.dictionary), task.fitted
    other, wanted = fitted.latent_means
    apart = np.abs(wanted - other) * decoder.norms
    by_means = np.argsort(-apart, kind="stable")[: max(CANDIDATES, max(SIZES))]
    rng = np.random.default_rng([context.config.seed, _KEY])
    alive = np.flatnonzero(fitted.latents.getnnz(0))
    directions, right = probes.directions(fitted.y, fitted.wanted, max(SIZES))
    means = other, wanted
    of_latents = lambda order: lambda contexts, m, move: _by_latents(contexts, decoder, order[:m], means, move)
    gains = []
    with Progress(CANDIDATES, "causal, latents alone", "latent") as bar:
        for latent in by_means[:CANDIDATES]:
            alone = of_latents(np.array([latent]))
            gains.append(_scored(task, alone, 1, ALONE, "tune").gain.sum())
            bar.advance(1)
    by_effect = np.concatenate(
        [by_means[:CANDIDATES][np.argsort(-np.array(gains), kind="stable")], by_means[CANDIDATES:]]
    )
    orders = {"latents_by_effect": by_effect, "latents_by_means": by_means, "random_latents": rng.permutation(alive)}
    changes: dict[str, Change] = {"probes": _along(task, directions)}
    changes |= {name: of_latents(order) for name, order in orders.items()}
    return Ways(changes, orders, right)


def _by_latents(
    contexts: Contexts, decoder: Decoder, latents: np.ndarray, means: tuple[np.ndarray, np.ndarray], move: Move
) -> np.ndarray:
    """Rows with some latents moved towards their wanted values; `means` [n] of the other state and the wanted one."""
    other, wanted = (mean[latents] for mean in means)
    now = contexts.latents[:, latents].toarray().astype(np.float64) if move[0] == SET else other[None]
    return np.float32(contexts.y + move[1] * (wanted - now) @ decoder.rows[latents])


def _along(task: Task, directions: np.ndarray) -> Change:
    """Coordinates along the first m of orthonormal directions [M, d] moved towards the wanted state's mean."""
    other, wanted = task.fitted.means

    def change(contexts: Contexts, m: int, move: Move) -> np.ndarray:
        some, now = directions[:m], contexts.y if move[0] == SET else other[None]
        return np.float32(contexts.y + move[1] * ((wanted - now) @ some.T) @ some)

    return change


def _mean_difference(task: Task) -> np.ndarray:
    """float64 [1, d_out], of length 1."""
    other, wanted = task.fitted.means
    return ((wanted - other) / max(np.linalg.norm(wanted - other), 1e-30))[None]
