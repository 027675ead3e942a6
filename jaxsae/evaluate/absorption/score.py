"""Absorption of all parents of one dictionary, with intervals over parents and over games or words."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from jaxsae.dictionary import Dictionary
from jaxsae.evaluate.absorption.judge import judge
from jaxsae.evaluate.absorption.parents import Part, Probe, balanced_probe, main_latents
from jaxsae.evaluate.absorption_config import AbsorptionConfig
from jaxsae.evaluate.baselines import one_thread
from jaxsae.evaluate.errors_of_rows import ratio
from jaxsae.progress import Progress

ORIGINS = ("zero", "b_dec")
FEWEST = 10  # rows on which the probe is right about a parent, below which it does not count
DRAWS = 1000
_DRAW_KEY = 0xB008
_SUMS = ("true", "main", "absorbed", "fraction")


@dataclasses.dataclass(frozen=True)
class Found:
    """Of one parent: its JSON, and by cluster {origin: float64 [len(_SUMS), clusters]}."""

    about: dict[str, Any]
    sums: dict[str, np.ndarray]


def probes_of(fit: Part, judged: Part, names: Sequence[str]) -> list[Probe | None]:
    """The probe of each parent; None where it never or always holds."""
    out: list[Probe | None] = []
    with Progress(len(names), "absorption, probes", "parent") as bar, one_thread():
        for parent in range(len(names)):
            y, y_judge = fit.parents[:, parent], judged.parents[:, parent]
            both = 0 < y.sum() < len(y) and y_judge.any()
            out.append(balanced_probe(fit.x, y, judged.x, y_judge) if both else None)
            bar.advance(1)
    return out


def measure(
    dictionary: Dictionary, fit: Part, judged: Part, names: Sequence[str], probes: Sequence[Probe | None], config: Any
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """(a dictionary's parents, its means over those that count, for each of `ORIGINS`, and over all with a good probe).

    Args:
      config: `EvaluateConfig`.
    """
    some = config.absorption
    W_dec, b_dec = (np.asarray(part, np.float64) for part in (dictionary.params.W_dec, dictionary.params.b_dec))
    lengths = np.maximum(np.linalg.norm(W_dec, axis=1), 1e-30)
    clusters = np.unique(judged.cluster, return_inverse=True)[1]
    found = []
    with Progress(len(names), "absorption", "parent") as bar, one_thread():
        for parent, (name, probe) in enumerate(zip(names, probes, strict=True)):
            if probe is not None:
                onto = W_dec @ probe.direction
                zero = {"zero": 0.0, "b_dec": float(b_dec @ probe.direction)}
                found.append(_of_parent(fit, judged, parent, name, probe, (onto, onto / lengths), zero, clusters, some))
            bar.advance(1, parent=name)
    of = lambda rule: {
        origin: means([one for one in found if one.about[rule]], origin, config.seed) for origin in ORIGINS
    }
    return [one.about for one in found], of("counts") | {"any_main": of("probed")}


def _of_parent(
    fit: Part,
    judged: Part,
    parent: int,
    name: str,
    probe: Probe,
    directions: tuple[np.ndarray, np.ndarray],
    zero: dict[str, float],
    clusters: np.ndarray,
    config: AbsorptionConfig,
) -> Found:
    y = judged.parents[:, parent]
    main, sparse_f1 = main_latents(fit, judged, parent, config)
    right = np.flatnonzero(y & (probe.logits(judged.x) > 0))
    base = 2 * y.mean() / (1 + y.mean())
    gains = [value - base for value in (sparse_f1, probe.f1)]
    about = {"parent": name, "share": float(y.mean()), "probe_f1": probe.f1, "sparse_f1": sparse_f1, "always_f1": base}
    about |= {"main_latents": main, "true": len(right)}
    about["probed"] = bool(probe.f1 >= config.absorption_probe_f1 and gains[1] > 0 and len(right) >= FEWEST)
    about["counts"] = about["probed"] and bool(gains[0] >= config.absorption_main_gain * gains[1])
    sums = {}
    onto, cosines = directions
    for origin in ORIGINS:
        projections = np.asarray(judged.x[right], np.float64) @ probe.direction - zero[origin]
        what = judge(judged.latents[right], projections, onto, cosines, main, config)
        rows = np.stack([np.ones(len(right)), what.main, what.absorbed, what.fraction])
        sums[origin] = np.stack([np.bincount(clusters[right], row, clusters.max() + 1) for row in rows])
        absorbers = Counter(what.absorber[what.absorbed].tolist()).most_common(5)
        about[origin] = {
            "main": int(what.main.sum()),
            "absorbed": int(what.absorbed.sum()),
            "score": ratio(what.absorbed.sum(), what.absorbed.sum() + what.main.sum()),
            "rate": ratio(what.absorbed.sum(), len(right)),
            "fraction": ratio(what.fraction.sum(), len(right)),
            "absorbers": [
                {"latent": i, "rows": rows, "cosine": cosines[i], "parent_holds": _holds(judged.latents, y, i)}
                for i, rows in absorbers
            ],
        }
    return Found(about, sums)


def _holds(latents: sp.csr_matrix, y: np.ndarray, latent: int) -> float:
    """Of the rows on which a latent fires the share on which the parent holds: near 1 where it says something narrower."""
    fires = latents[:, [latent]].nonzero()[0]
    return float(y[fires].mean())


def means(counted: Sequence[Found], origin: str, seed: int) -> dict[str, Any]:
    """Means over the parents that count, {score, rate, fraction, silent, main_latents}, with 95% intervals.

    Draws are of parents and, apart from them, of games or words, both with replacement: what other parents, and other games,
    would have given.
    """
    if not counted:
        return {"parents": 0} | dict.fromkeys(("score", "rate", "fraction", "silent", "main_latents"))
    sums = np.stack([one.sums[origin] for one in counted])  # [P, sums, clusters]
    rng = np.random.default_rng([seed, _DRAW_KEY])
    games, parents = sums.shape[2], len(sums)
    by_game = rng.multinomial(games, np.full(games, 1 / games), DRAWS)
    by_parent = np.concatenate([np.ones((1, parents)), rng.multinomial(parents, np.full(parents, 1 / parents), DRAWS)])
    whole = np.concatenate([sums.sum(2)[None], np.einsum("bg,psg->bps", by_game, sums)])  # [1 + DRAWS, P, sums]
    true, main, absorbed, fraction = np.moveaxis(whole, 2, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        each = {
            "score": absorbed / (absorbed + main),
            "rate": absorbed / true,
            "fraction": fraction / true,
            "silent": 1 - main / true,
        }
    out: dict[str, Any] = {"parents": parents, "true": int(true[0].sum())}
    for name, values in each.items():
        defined = np.isfinite(values)
        with np.errstate(invalid="ignore"):  # a draw may have none of the parents that have one
            drawn = (np.where(defined, values, 0) * by_parent).sum(1) / (defined * by_parent).sum(1)
        ends = np.nanpercentile(drawn[1:], (2.5, 97.5)).tolist() if defined[0].any() else None
        out[name] = {"value": float(drawn[0]), "interval": ends} if defined[0].any() else None
    return out | {"main_latents": float(np.mean([len(one.about["main_latents"]) for one in counted]))}
