"""How well a dictionary gives activations back, how many latents that takes, and how often each fires.

With y = x - m and y_hat = x_hat - m, where m is the mean of the evaluated rows:

    FVU = E||x - x_hat||^2 / E||y||^2,   gamma = E||y_hat||^2 / E[y_hat . y]   (below 1: shrinkage)

gamma is the relative reconstruction bias of 2407.14435. It is taken about the mean, since a large mean,
which the decoder's bias gives back, would hold it at 1 whatever the latents do; `gamma_uncentred` is the
same of x and x_hat. Sums are float64 and run over batches; rows x latents never stands in memory.
"""

from typing import Any

import numpy as np

from jaxsae.dictionary import Dictionary, Latents
from jaxsae.errors import InputError
from jaxsae.evaluate import by_site, says
from jaxsae.evaluate.by_site import BySite
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.errors_of_rows import Errors
from jaxsae.evaluate.run import ARRAYS, number
from jaxsae.progress import Progress
from jaxsae.store.statistics import Moments
from jaxsae.training.held_out import DENSE, RARE, tells_rare

BINS_PER_DECADE = 4


class Firing:
    """How often, and how strongly, each of `width` latents is active."""

    def __init__(self, width: int):
        self.rows, self.count, self.total = 0, np.zeros(width, np.int64), np.zeros(width)

    def add(self, latents: Latents) -> None:
        """Takes in the latents of some rows; a latent fires where its value is above 0."""
        values, indices = np.asarray(latents.values, np.float64), np.asarray(latents.indices)
        on, width = values != 0, len(self.count)
        self.rows += len(values)
        self.count += np.bincount(indices[on], minlength=width)
        self.total += np.bincount(indices[on], weights=values[on], minlength=width)

    def figures(self) -> dict[str, Any]:
        """L0, shares of latents that fire on none, few and many of the rows, and the histogram of log10 frequency."""
        return {
            "l0": self.count.sum() / self.rows,
            "dead_fraction": (self.count == 0).mean(),
            "rare_fraction": (self.count < RARE * self.rows).mean(),
            "dense_fraction": (self.count > DENSE * self.rows).mean(),
            "frequency_histogram": self.histogram(),
        }

    def histogram(self) -> dict[str, Any]:
        """Latents by log10 of the share of rows they fire on; `never` counts those that never do."""
        fired = self.count[self.count > 0]
        lowest = min(-6, -int(np.ceil(np.log10(self.rows))))
        edges = np.linspace(lowest, 0, -lowest * BINS_PER_DECADE + 1)
        counts, _ = np.histogram(np.log10(fired / self.rows), edges)
        return {"log10_edges": edges, "counts": counts, "never": len(self.count) - len(fired)}

    def arrays(self) -> dict[str, np.ndarray]:
        """`count` and `frequency` [n], `mean_active` [n] the mean value where a latent fires, and `rows`."""
        mean = self.total / np.maximum(self.count, 1)
        frequency = self.count / self.rows
        return {"count": self.count, "frequency": frequency, "mean_active": mean, "rows": np.int64(self.rows)}


def evaluate(context: Context) -> dict[str, Any]:
    """Figures of reconstruction on rows that training never saw.

    Returns:
      `rows`, `held_out`, `fvu`, `explained_variance`, `mse` (a dimension), `gamma`, `gamma_uncentred`, `cosine`,
      `cosine_centred`, `l0`, `dead_fraction`, `rare_fraction` and `dense_fraction` (shares of the latents: those that
      fire on none of these rows, on fewer than 1 in 10,000, on more than 1 in 10), `frequency_histogram`, and
      `baselines`: the mean alone, and the first l0 principal components; of a transcoder the mean, and the best linear map.
      Where several sites are written, errors are of sites brought to one spread, so that each counts alike; `sites` has
      the figures of each as it is, and `shared` and `exclusive` say of how many latents the decoder's rows are where
      (`by_site.py`).
    """
    moments, found = _moments(context)
    dictionary, units = context.dictionary, context.units
    errors, firing = Errors(moments.mean), Firing(dictionary.width)
    sites = None if units is None else BySite(context, moments.mean / units)
    with Progress(context.rows, "reconstruction", "row", scale=True) as bar:
        for x_BxD, wanted in context.batches():
            latents = dictionary.encode(x_BxD)
            given = np.asarray(dictionary.decode(latents, x_BxD))
            errors.add(wanted if units is None else wanted * units, given if units is None else given * units)
            if sites:
                sites.add(wanted, given)
            firing.add(latents)
            bar.advance(len(x_BxD))
    results = {"rows": errors.rows, "store": context.store.url, "held_out": context.trained_on_store}
    results |= errors.figures() | firing.figures()
    arrays = {}
    if sites:
        results |= sites.figures()
        arrays = {"site_shares": {"shares": sites.shares, "sites": np.array(context.writes)}}
    baselines = {"mean": {"fvu": 1.0}} | _baselines(found, dictionary, max(1, round(results["l0"])))
    step = context.dictionary.metadata.get("step")
    frequencies = firing.arrays() | ({} if step is None else {"step": np.int64(step)})
    return results | {"baselines": baselines, ARRAYS: {"frequencies": frequencies} | arrays}


def _moments(context: Context) -> tuple[Moments, np.ndarray]:
    """Moments of what is to be written of the evaluated rows, and the scatter matrix about their mean: of what is read and,
    where that is something else, of what is written behind it."""
    about, scatter, sums, parts = None, 0.0, 0.0, []
    for x_BxD, wanted in context.batches():
        if context.units is not None:
            wanted = wanted * context.units
        rows = np.concatenate([x_BxD, wanted], 1) if context.transcodes else wanted
        about = rows.mean(0, dtype=np.float64) if about is None else about  # near the mean no digits are lost below
        y = rows - about
        scatter, sums = scatter + y.T @ y, sums + y.sum(0)
        parts.append(Moments.of(wanted))
    moments = Moments.merged(parts)
    if moments.squares.sum() <= 0:
        raise InputError(f"--rows={context.config.rows}: the {moments.rows} rows of {context.store.url} are all alike")
    return moments, scatter - np.outer(sums, sums) / moments.rows


def _baselines(scatter: np.ndarray, dictionary: Dictionary, components: int) -> dict[str, dict[str, float]]:
    """FVU of so many principal components or, of a transcoder, of the linear map that least squares give on these rows: of
    what is read at a layer and before it, where there are several."""
    if not dictionary.config.transcode:
        spectrum = np.maximum(np.linalg.eigvalsh(scatter)[::-1], 0)
        return {"pca_k": {"fvu": spectrum[components:].sum() / spectrum.sum(), "components": components}}
    d_in, layers = dictionary.d_model, dictionary.config.layers
    among, across, total = scatter[:d_in, :d_in], scatter[:d_in, d_in:], np.trace(scatter[d_in:, d_in:])
    explained = 0.0
    for layer, written in enumerate(np.split(across, layers, 1), 1):
        known = d_in // layers * layer
        explained += (written[:known] * np.linalg.lstsq(among[:known, :known], written[:known])[0]).sum()
    return {"linear": {"fvu": max(0.0, 1 - explained / total)}}


summary = says.reconstruction


def table(results: dict[str, Any]) -> list[str]:
    """The figures in a few lines."""
    others = results["baselines"]
    pca = others.get("pca_k")
    beside = (
        f"PCA with {pca['components']} components {pca['fvu']:.4f}" if pca else f"linear {others['linear']['fvu']:.4f}"
    )
    seen = "held-out rows" if results["held_out"] else "rows of another store"
    rare = f"{results['rare_fraction']:.2%} on fewer than 1 in 10,000, " if tells_rare(results["rows"]) else ""
    return [
        f"fvu {results['fvu']:.4f}   (mean 1, {beside}; {results['rows']:,} {seen})",
        f"l0 {results['l0']:.2f}   gamma {number(results['gamma'])}   cosine {results['cosine']:.4f}",
        *by_site.lines(results),
        f"of the latents, on these rows, {results['dead_fraction']:.2%} never fire, {rare}"
        f"{results['dense_fraction']:.2%} on more than 1 in 10",
    ]
