"""All probes of one task on the same rows, and how far latents are ahead of each baseline."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxsae.evaluate.probing import paired, probes
from jaxsae.evaluate.probing.rows import Rows

OWN = "latents"
WHOLE = ("raw", "pca_all", "reconstruction", "knn", "majority")  # baselines without a k
Drawn = Mapping[str, np.ndarray]  # {probe: [METRICS, draws]}


def probed(
    rows: Rows, y: np.ndarray, tests: np.ndarray, folds: np.ndarray, ks: tuple[int, ...], standardized: bool
) -> dict[str, probes.Said]:
    """{probe: what it says of the rows that measure}: k-sparse ones of each dictionary and of raw coordinates, the first k
    principal components, and those of `WHOLE`.

    Args:
      y: bool [N]. tests: bool [N]. folds: int [N].
    """
    fit, inside = ~tests, folds[~tests]
    raw_fit, raw_test, y_fit = rows.raw[fit], rows.raw[tests], y[fit]
    regress = lambda a, b, **about: probes.logistic(a, y_fit, inside, b, **about)
    out = {}
    for name, units in {**rows.latents, "coordinates": rows.raw}.items():
        of_fit, of_test = units[fit], units[tests]
        chosen = probes.most_different(of_fit, y_fit, max(ks), standardized)
        a, b = (probes.dense(part, chosen) for part in (of_fit, of_test))
        for k in ks:
            out[f"{name}_{k}"] = regress(a[:, :k], b[:, :k], chosen=chosen[:k].tolist())
    pca_fit, pca_test = probes.components(raw_fit, raw_test)
    for k in ks:
        out[f"pca_{k}"] = regress(pca_fit[:, :k], pca_test[:, :k])
    out["pca_all"] = regress(pca_fit, pca_test)
    out["raw"] = regress(raw_fit, raw_test)
    if rows.rebuilt is not None:
        out["reconstruction"] = regress(rows.rebuilt[fit], rows.rebuilt[tests])
    out["knn"] = probes.nearest(raw_fit, y_fit, inside, raw_test)
    share = float(y_fit.mean())
    out["majority"] = probes.Said(np.full(tests.sum(), share), np.full(tests.sum(), share > 0.5), {"share": share})
    return out


def rivals(name: str, k: int) -> bool:
    """Whether latents with this k are compared with the probe of that name: those without a k, and those with the same."""
    return name in WHOLE or (name.endswith(f"_{k}") and not name.startswith(f"{OWN}_"))


def figures(drawn: Drawn, ks: tuple[int, ...]) -> dict[str, Any]:
    """`probes` {name: {metric: value and interval}}, and `differences` {latents_k: {rival: {metric: ...}}}, less it."""
    of = lambda values: {metric: paired.figure(row) for metric, row in zip(paired.METRICS, values, strict=True)}
    less = {
        f"{OWN}_{k}": {name: of(drawn[f"{OWN}_{k}"] - values) for name, values in drawn.items() if rivals(name, k)}
        for k in ks
    }
    return {"probes": {name: of(values) for name, values in drawn.items()}, "differences": less}


def mean_of(some: list[Drawn]) -> dict[str, np.ndarray]:
    """{probe: [METRICS, draws]} of several tasks, draw by draw; of probes that all of them have."""
    shared = [name for name in some[0] if all(name in one for one in some)]
    return {name: np.mean([one[name] for one in some], 0) for name in shared}
