"""How many latents it takes to turn a state into another, against how many probe directions.

The m latents, or the coordinates along m orthonormal directions, are set to their means over rows with the wanted state,

    x' = x + t sum_i (E[f_i | wanted] - f_i) W_dec,i          x' = x + t U U^T (E[x | wanted] - x)

the error and all else kept. The strength t, and which latents, are chosen on contexts of their own. Latents come by how far
their means lie apart times their lengths, and, of those foremost by that, by what setting each alone does.
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
STRENGTHS = (1.0, 2.0, 4.0)
SWEPT = (0.5, 1.0, 2.0, 4.0, 8.0)
BUDGETS = (0.01, 0.03, 0.1, 0.3)  # nats of KL among other tokens at which effects are compared
CANDIDATES = 32  # latents that are tried alone
_KEY = 0x3ED1

Change = Callable[[Contexts, int, float], np.ndarray]  # contexts, m, strength -> rows [R, d_out] to stand there


@dataclasses.dataclass(frozen=True)
class Ways:
    """{name: change}, the latents by order, and how well each successive probe told the states apart."""

    changes: dict[str, Change]
    orders: dict[str, np.ndarray]
    right: list[float]


def figures(context: Context, task: Task) -> dict[str, Any]:
    """Returns `contexts`, `tuned_on`, `fitted_rows`, `base` {errors}, `curves` {way: [{m, strength, share, interval, price,
    spill, errors}]}, `like_probe` (the fewest latents that do as much as one probe direction; None where none do),
    `probe_right`, `foremost` (latents by effect), `sweeps` {way: [{strength, share, interval, price, spill}]} and `at_price`
    {way: [share at each of `budgets`, None beyond the sweep]}."""
    ways, seed = _ways(context, task), context.config.seed
    size = len(task.test)
    curves: dict[str, list[dict[str, Any]]] = {}
    with Progress(len(ways.changes) * len(SIZES) + 4, "causal, mediation", "change") as bar:
        for name, change in ways.changes.items():
            curves[name] = []
            for m in SIZES:
                told = {t: _scored(task, change, m, t, "tune") for t in STRENGTHS}
                best = max(told, key=lambda t: told[t].gain.sum() / max(told[t].whole.sum(), 1e-30))
                found = _scored(task, change, m, best, "test")
                curves[name].append({"m": m, "strength": best} | _told(found, seed))
                bar.advance(1)
        sweeps = {}
        for name, way, m in (
            ("1 probe direction", "probes", 1),
            ("difference of means", "mean_difference", 1),
            ("1 latent", "latents_by_effect", 1),
            ("8 latents", "latents_by_effect", 8),
        ):
            change = ways.changes.get(way) or _along(task, _mean_difference(task))
            sweeps[name] = [{"strength": t} | _told(_scored(task, change, m, t, "test"), seed) for t in SWEPT]
            bar.advance(1)
    probe = curves["probes"][0]["share"]
    counts = [part["m"] for part in curves["latents_by_effect"] if (part["share"] or 0) >= (probe or np.inf)]
    untouched = task.test_score(task.test.logits, task.test.logits, np.zeros(size))
    return {
        "contexts": size,
        "tuned_on": len(task.tune),
        "fitted_rows": len(task.fitted.y),
        "base": {"errors": _mean(untouched.errors)},
        "curves": curves,
        "like_probe": counts[0] if counts else None,
        "probe_right": ways.right,
        "larger_class": float(max(task.fitted.wanted.mean(), 1 - task.fitted.wanted.mean())),
        "foremost": [int(i) for i in ways.orders["latents_by_effect"][:10]],
        "sweeps": sweeps,
        "budgets": BUDGETS,
        "at_price": {name: [_at(sweep, budget) for budget in BUDGETS] for name, sweep in sweeps.items()},
    }


def _scored(task: Task, change: Change, m: int, strength: float, on: str) -> Scored:
    contexts, score = (task.tune, task.tune_score) if on == "tune" else (task.test, task.test_score)
    return score(contexts.logits, *contexts.changed(change(contexts, m, strength)))


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


def _at(sweep: list[dict[str, Any]], budget: float) -> float | None:
    """The share at a price, between the strengths about it, from 0 at 0; None where the sweep does not come to it."""
    before = (0.0, 0.0)
    for part in sweep:
        now = part["price"], part["share"]
        if now[0] >= budget and now[1] is not None:
            return float(np.interp(budget, (before[0], now[0]), (before[1], now[1])))
        if now[0] > before[0] and now[1] is not None:
            before = now
    return None


def _ways(context: Context, task: Task) -> Ways:
    decoder, fitted = Decoder(context.dictionary), task.fitted
    other, wanted = fitted.latent_means
    apart = np.abs(wanted - other) * decoder.norms
    by_means = np.argsort(-apart, kind="stable")[: max(CANDIDATES, max(SIZES))]
    rng = np.random.default_rng([context.config.seed, _KEY])
    alive = np.flatnonzero(fitted.latents.getnnz(0))
    directions, right = probes.directions(fitted.y, fitted.wanted, max(SIZES))
    of_latents = lambda order: lambda contexts, m, t: _set(contexts, decoder, order[:m], wanted, t)
    gains = []
    with Progress(CANDIDATES, "causal, latents alone", "latent") as bar:
        for latent in by_means[:CANDIDATES]:
            alone = of_latents(np.array([latent]))
            gains.append(_scored(task, alone, 1, 2.0, "tune").gain.sum())
            bar.advance(1)
    by_effect = np.concatenate(
        [by_means[:CANDIDATES][np.argsort(-np.array(gains), kind="stable")], by_means[CANDIDATES:]]
    )
    orders = {"latents_by_effect": by_effect, "latents_by_means": by_means, "random_latents": rng.permutation(alive)}
    changes: dict[str, Change] = {"probes": _along(task, directions)}
    changes |= {name: of_latents(order) for name, order in orders.items()}
    return Ways(changes, orders, right)


def _set(contexts: Contexts, decoder: Decoder, latents: np.ndarray, wanted: np.ndarray, strength: float) -> np.ndarray:
    """Rows with some latents set towards their `wanted` [n] values."""
    f = contexts.latents[:, latents].toarray().astype(np.float64)
    return np.float32(contexts.y + strength * (wanted[latents] - f) @ decoder.rows[latents])


def _along(task: Task, directions: np.ndarray) -> Change:
    """Coordinates along the first m of orthonormal directions [M, d] set towards the wanted state's mean."""
    mean = task.fitted.means[1]

    def change(contexts: Contexts, m: int, strength: float) -> np.ndarray:
        some = directions[:m]
        return np.float32(contexts.y + strength * ((mean - contexts.y) @ some.T) @ some)

    return change


def _mean_difference(task: Task) -> np.ndarray:
    """float64 [1, d_out], of length 1."""
    other, wanted = task.fitted.means
    return ((wanted - other) / max(np.linalg.norm(wanted - other), 1e-30))[None]
