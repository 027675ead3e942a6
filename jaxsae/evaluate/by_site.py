"""A dictionary that writes several sites, site by site: what is lost at each, and where its latents' decoder rows lie.

The share of latent i at site l is ||W_dec,i^l|| / sum_m ||W_dec,i^m||, of sites brought to one spread (relative decoder
norms, Sparse Crosscoders, Anthropic, October 2024). A latent is exclusive to a site that has EXCLUSIVE of it, and shared
where every site has at least half of an even share; of two sites that is a share from a quarter to three quarters.
"""

from typing import Any

import numpy as np

from jaxsae.dictionary.widths import site_lengths
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.errors_of_rows import Errors

EXCLUSIVE = 0.9


class BySite:
    """Errors of each site, as its activations are, and shares of the decoder's rows."""

    def __init__(self, context: Context, mean: np.ndarray):
        """`mean`: float64 [d_out], of the evaluated rows."""
        widths = context.dictionary.widths.written_sites
        self._sites, self._ends = context.writes, np.cumsum(widths)[:-1]
        self._errors = [Errors(part) for part in np.split(mean, self._ends)]
        lengths = np.asarray(site_lengths(context.dictionary.params.W_dec * context.units, widths))
        total = lengths.sum(1, keepdims=True)
        self.shares = np.divide(lengths, total, out=np.zeros_like(lengths), where=total > 0)

    def add(self, wanted: np.ndarray, given: np.ndarray) -> None:
        """Takes in activations [B, d_out] and their reconstructions."""
        parts = (np.split(rows, self._ends, 1) for rows in (wanted, given))
        for errors, x, y in zip(self._errors, *parts, strict=True):
            errors.add(x, y)

    def figures(self) -> dict[str, Any]:
        """`sites` {site: figures}, `shared`, `exclusive` {site: latents}, `between`: the other latents."""
        own = self.shares >= EXCLUSIVE
        shared = (self.shares >= 0.5 / len(self._sites)).all(1)
        exclusive = dict(zip(self._sites, own.sum(0), strict=True))
        rest = len(self.shares) - shared.sum() - own.sum()
        each = {site: errors.figures() for site, errors in zip(self._sites, self._errors, strict=True)}
        return {"sites": each, "shared": shared.sum(), "exclusive": exclusive, "between": rest}


def lines(results: dict[str, Any]) -> list[str]:
    """The figures in a few lines; none where there is one site."""
    if "sites" not in results:
        return []
    each = "   ".join(f"{site} {found['fvu']:.4f}" for site, found in results["sites"].items())
    own = "   ".join(f"{site} {count:,}" for site, count in results["exclusive"].items())
    return [f"fvu of each   {each}", f"latents of one site   {own}   of all {results['shared']:,}"]
