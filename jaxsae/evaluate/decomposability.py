"""How far a dictionary is made of fewer directions: what a meta-SAE explains of its decoder (Leask et al. 2025, 2502.04878).

With W_i the decoder rows at length 1 (a meta-SAE's store, row i is latent i) and W_hat_i their reconstructions:

    explained variance = 1 - sum_i ||W_i - W_hat_i||^2 / sum_i ||W_i - mean W||^2

The rows are those that the meta-SAE was trained on: it is a decomposition of these rows, not a guess at others. As many
random directions may be explained as well, so that the figure says something beside that of --control_run alone. Rows of
length 0 have no direction, and are left out. Edges latent -> meta-latent weigh what a meta-latent adds to the row: its
value times the length of its own decoder row. Sums are float64; latents x meta-latents never stands in memory.
"""

import dataclasses
from typing import Any

import numpy as np

from jaxsae.dictionary import Latents
from jaxsae.errors import InputError
from jaxsae.evaluate import says
from jaxsae.evaluate.context import Context, check_finite, is_meta_sae
from jaxsae.evaluate.control import control_dictionary
from jaxsae.evaluate.decoder_rows import DecoderRows, fired_in_source, newest_step
from jaxsae.evaluate.errors_of_rows import ratio
from jaxsae.evaluate.matching import matched_by_random
from jaxsae.evaluate.run import ARRAYS, number
from jaxsae.progress import Progress
from jaxsae.store.schema import DECODER

LISTED, SHOWN = 1000, 12  # edges in the JSON at most; latents of the most and the least variance explained
BINS = 20  # of explained variance, from 0 to 1


class Decomposition:
    """What a meta-SAE makes of each latent of its source, in order; see `arrays`."""

    def __init__(self, mean: np.ndarray):
        """`mean` [d]: of the rows."""
        self._mean, self._parts = np.asarray(mean, np.float64), []

    def add(self, rows: np.ndarray, reconstructions: np.ndarray, latents: Latents, norms: np.ndarray) -> None:
        """Takes in rows [B, d], what they came out as, their meta-latents, and the lengths [m] of the decoder's rows."""
        x, values, indices = np.asarray(rows, np.float64), np.asarray(latents.values), np.asarray(latents.indices)
        error = np.square(x - np.asarray(reconstructions, np.float64)).sum(1)
        variance = np.square(x - self._mean).sum(1)
        on = values != 0
        weights = np.where(on, values * norms[indices], 0)
        order = np.argsort(-np.abs(weights), axis=1, kind="stable")
        weights, indices, on = (np.take_along_axis(a, order, 1) for a in (weights, indices, on))
        has_direction = x.any(1)
        on &= has_direction[:, None]
        self._parts.append((error, variance, has_direction, on.sum(1), indices[on], weights[on]))

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """By latent [n]: `squared_error`, `variance` (about the mean row), `has_direction`, `explained_variance`; and the
        edges: those of latent i stand in `meta_latent` and `weight` from `start[i]` to `start[i + 1]`, largest first."""
        error, variance, has_direction, count, indices, weights = map(np.concatenate, zip(*self._parts, strict=True))
        known = has_direction & (variance > 0)
        explained = np.where(known, 1 - error / np.where(known, variance, 1), np.nan)
        return {
            "squared_error": error,
            "variance": variance,
            "has_direction": has_direction,
            "explained_variance": explained,
            "start": np.concatenate([[0], np.cumsum(count)]),
            "meta_latent": indices.astype(np.int32),
            "weight": weights.astype(np.float32),
        }


def check(context: Context) -> None:
    """Raises `InputError` where the dictionary is no meta-SAE, or --control_run no control of it."""
    if not is_meta_sae(context.dictionary.metadata):
        raise InputError(
            f"--suite=decomposability: is for a meta-SAE, and {context.config.run} is none. Train one of it first, `jaxsae "
            f"train --source_run={context.config.run} --workdir=META`, and give --run=META."
        )
    control_dictionary(context)


def evaluate(context: Context) -> dict[str, Any]:
    """Figures of a meta-SAE on the decoder rows of its source.

    Returns:
      `explained_variance`, `fvu`, `l0` (meta-latents a latent on average), `dead_meta_latents`, `dead_fraction`,
      `source_step` and `source_step_now` (of which the rows are, and which its source has come to),
      `meta_latents_a_latent` and `latents_a_meta_latent` (histograms), `latents` (with a direction), `without_direction`,
      `explained_variance_of_latents` (mean, median, histogram), `baselines`, `by_firing` (apart for latents that fired in
      the source's own evaluation and those that did not; None where there is none), and `graph`: numbers of edges, the
      largest of them as [latent, meta-latent, weight], and the latents of which most and least is explained. All edges,
      and the figures of each latent, are in `decomposability.npz`, as `Decomposition.arrays` has them.
    """
    rows = DecoderRows.of(context)
    arrays = _decompose(context, rows)
    there, explained = arrays["has_direction"], arrays["explained_variance"]
    about = context.dictionary.metadata
    found = {"explained_variance": (value := _explained(arrays, there)), "fvu": None if value is None else 1 - value}
    found |= _counts(arrays, context.dictionary.width)
    found |= {"latents": int(there.sum()), "without_direction": int((~there).sum()), "store": context.store.url}
    found |= {name: about.get(name) for name in ("source_run", "directions")}
    step = context.attributes.get("settings", {}).get("step")
    found |= {"source_step": step, "source_step_now": newest_step(about.get("source_run"))}
    found |= {"trained_on_rows": context.trained_on_store}
    k = max(1, round(found["l0"]))
    found["explained_variance_of_latents"] = _spread(explained[np.isfinite(explained)])
    found["baselines"] = {
        "mean": {"explained_variance": 0.0},
        "pca_k": {"explained_variance": rows.explained_by_components(k), "components": k},
        "random_dictionary": matched_by_random(context, rows, k),
        "random_decoder": _control(context),
    }
    fired = fired_in_source(about, len(there), step) if about.get("directions") == DECODER else None
    found["by_firing"] = fired and {
        "rows": fired.rows,
        "fired": _part(arrays, there & fired.fired),
        "never_fired": _part(arrays, there & ~fired.fired),
    }
    return found | {"graph": _graph(arrays), ARRAYS: {"decomposability": arrays}}


def _decompose(context: Context, rows: DecoderRows) -> dict[str, np.ndarray]:
    dictionary = context.dictionary
    norms = np.linalg.norm(np.asarray(dictionary.params.W_dec, np.float64), axis=1)
    decomposition = Decomposition(rows.mean)
    with Progress(rows.count, "decomposability", "row", scale=True) as bar:
        for first, x in rows.batches():
            check_finite(x, context.store.url, first)
            latents = dictionary.encode(x)
            decomposition.add(x, np.asarray(dictionary.decode(latents)), latents, norms)
            bar.advance(len(x))
    return decomposition.arrays


def _explained(arrays: dict[str, np.ndarray], which: np.ndarray) -> float | None:
    """Explained variance of some latents together; None where there is none to explain."""
    unexplained = ratio(arrays["squared_error"][which].sum(), arrays["variance"][which].sum())
    return None if unexplained is None else 1 - unexplained


def _part(arrays: dict[str, np.ndarray], which: np.ndarray) -> dict[str, Any]:
    return {"latents": int(which.sum()), "explained_variance": _explained(arrays, which)}


def _counts(arrays: dict[str, np.ndarray], width: int) -> dict[str, Any]:
    """How many meta-latents a latent has, and how many latents a meta-latent."""
    there = arrays["has_direction"]
    a_latent = np.diff(arrays["start"])[there]
    a_meta = np.bincount(arrays["meta_latent"], minlength=width)
    edges = [0, *(2**i for i in range(int(a_meta.max()).bit_length() + 1))]  # 0, 1, 2 to 3, 4 to 7, ...
    dead = int((a_meta == 0).sum())
    return {
        "l0": float(a_latent.mean()),
        "dead_meta_latents": dead,
        "dead_fraction": dead / width,
        "meta_latents_a_latent": {"mean": a_latent.mean(), "max": a_latent.max(), "counts": np.bincount(a_latent)},
        "latents_a_meta_latent": {
            "mean": a_meta.mean(),
            "median": np.median(a_meta),
            "max": a_meta.max(),
            "edges": edges,
            "counts": np.histogram(a_meta, edges)[0],
        },
    }


def _spread(explained: np.ndarray) -> dict[str, Any]:
    """Mean, median and histogram of single latents' explained variance; `below`: of which less than 0 is explained."""
    if not len(explained):
        return {"mean": None, "median": None, "below": 0, "edges": [], "counts": []}
    edges = np.linspace(0, 1, BINS + 1)
    counts = np.histogram(np.minimum(explained, 1), edges)[0]
    below = int((explained < 0).sum())
    return {"mean": explained.mean(), "median": np.median(explained), "below": below, "edges": edges, "counts": counts}


def _graph(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    weight, meta = arrays["weight"], arrays["meta_latent"]
    latent = np.repeat(np.arange(len(arrays["start"]) - 1), np.diff(arrays["start"]))
    largest = np.argsort(-weight, kind="stable")[:LISTED]
    explained = arrays["explained_variance"]
    order = np.argsort(-explained, kind="stable")  # what is not known comes last
    order = order[: np.isfinite(explained).sum()]
    return {
        "file": "decomposability.npz",
        "edges": len(weight),
        "edges_listed": len(largest),
        "largest": [[int(latent[e]), int(meta[e]), float(weight[e])] for e in largest],
        "most_explained": [_shown(arrays, i) for i in order[:SHOWN]],
        "least_explained": [_shown(arrays, i) for i in order[::-1][:SHOWN]],
    }


def _shown(arrays: dict[str, np.ndarray], latent: int) -> dict[str, Any]:
    edges = slice(*arrays["start"][latent : latent + 2])
    explained = arrays["explained_variance"][latent]
    edges_of = {"meta_latents": arrays["meta_latent"][edges], "weights": arrays["weight"][edges]}
    return {"latent": latent, "explained_variance": explained} | edges_of


def _control(context: Context) -> dict[str, Any] | None:
    """The same figure of --control_run; None where there is none."""
    run, dictionary = context.config.control_run, control_dictionary(context)
    if dictionary is None:
        return None
    control = Context(dataclasses.replace(context.config, run=run, store="", site="", control_run=""), dictionary)
    arrays = _decompose(control, DecoderRows.of(control))
    there = arrays["has_direction"]
    l0 = float(np.diff(arrays["start"])[there].mean())
    about = {"run": run, "directions": dictionary.metadata.get("directions"), "width": dictionary.width, "l0": l0}
    return about | _part(arrays, there)


summary = says.decomposability


def table(results: dict[str, Any]) -> list[str]:
    """The figures in a few lines."""
    base, each = results["baselines"], results["explained_variance_of_latents"]
    pca, random, control = base["pca_k"], base["random_dictionary"], base["random_decoder"]
    beside = f"PCA with {pca['components']} components {number(pca['explained_variance'])}"
    if random:
        beside += (
            f", the best {random['k']} of {random['width']:,} random directions {number(random['explained_variance'])}"
        )
    if control:
        beside += f", a meta-SAE of {control['directions']} directions {number(control['explained_variance'])}"
    lines = [
        f"explained variance {number(results['explained_variance'])}   ({beside}; {results['latents']:,} latents)",
        f"of single latents: mean {number(each['mean'])}, median {number(each['median'])}",
        f"meta-latents a latent {results['l0']:.2f}   latents a meta-latent {results['latents_a_meta_latent']['mean']:.1f}   "
        f"dead meta-latents {results['dead_fraction']:.2%}",
    ]
    if not control and results["directions"] == DECODER:
        lines.append(
            "random directions may be explained as well: train a meta-SAE with --source_rows=random, and give --control_run"
        )
    then, now = results["source_step"], results["source_step_now"]
    if None not in (then, now) and then != now:
        lines.append(f"the rows are those of step {then:,}, and {results['source_run']} is at step {now:,} by now")
    if apart := results["by_firing"]:
        words = {"fired": "that fire", "never_fired": "that never do"}
        told = [f"{apart[n]['latents']:,} {w} {number(apart[n]['explained_variance'])}" for n, w in words.items()]
        lines.append(f"on the {apart['rows']:,} rows of the source's evaluation: {', '.join(told)}")
    return lines
