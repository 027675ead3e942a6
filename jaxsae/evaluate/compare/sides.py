"""The decoder rows that are held side by side: at each site that both write and, of several, all of them as one."""

import dataclasses
from typing import Any

import numpy as np

from jaxsae.dictionary import Dictionary
from jaxsae.dictionary.widths import site_lengths
from jaxsae.errors import InputError
from jaxsae.evaluate.against import Other, common_sites
from jaxsae.evaluate.by_site import EXCLUSIVE
from jaxsae.evaluate.compare.cosines import unit
from jaxsae.evaluate.context import Context

ALL = "all"  # the sites as one


@dataclasses.dataclass(frozen=True)
class Sides:
    """Decoder rows at the sites that both write.

    Attributes:
      own, other: {site: float32 [n, d] of length 1; 0 without a direction}; first ALL, where there are several sites.
      own_shares, other_shares: [n, sites], of the rows' lengths; None of one site.
    """

    own: dict[str, np.ndarray]
    other: dict[str, np.ndarray]
    own_shares: np.ndarray | None
    other_shares: np.ndarray | None

    @classmethod
    def of(cls, context: Context, other: Other) -> "Sides":
        """Of the dictionary that is judged, and another one; sites are brought to one spread, so that each counts alike."""
        sites = common_sites(context, other)
        scales = _scales(context, sites)
        own = _by_site(context.dictionary, context.writes, sites)
        there = _by_site(other.dictionary, other.writes, sites)
        shares = [None, None]
        if len(sites) > 1:
            shares = [_shares(rows, scales) for rows in (own, there)]
        return cls(_units(own, scales), _units(there, scales), *shares)


def _by_site(dictionary: Dictionary, writes: tuple[str, ...], sites: list[str]) -> dict[str, np.ndarray]:
    rows = np.asarray(dictionary.params.W_dec, np.float32)
    rows = np.where(np.isfinite(rows).all(1, keepdims=True), rows, 0)
    ends = np.cumsum(dictionary.widths.written_sites)[:-1]
    parts = dict(zip(writes, np.split(rows, ends, 1), strict=True))
    return {site: parts[site] for site in sites}


def _scales(context: Context, sites: list[str]) -> dict[str, float]:
    """What brings each site to one spread; 1 where there is one, or no store says it."""
    if len(sites) > 1:
        try:
            return {site: context.store.d_model(site) ** 0.5 / context.store.statistics(site).scale for site in sites}
        except InputError:
            pass
    return dict.fromkeys(sites, 1.0)


def _units(rows: dict[str, np.ndarray], scales: dict[str, float]) -> dict[str, np.ndarray]:
    whole = {ALL: np.concatenate([rows[site] * scales[site] for site in rows], 1)} if len(rows) > 1 else {}
    return {name: unit(x) for name, x in (whole | rows).items()}


def _shares(rows: dict[str, np.ndarray], scales: dict[str, float]) -> np.ndarray:
    """Relative decoder norms (`by_site.py`)."""
    whole = np.concatenate([rows[site] * scales[site] for site in rows], 1)
    lengths = np.asarray(site_lengths(whole, [x.shape[1] for x in rows.values()]), np.float64)
    total = lengths.sum(1, keepdims=True)
    return np.divide(lengths, total, out=np.zeros_like(lengths), where=total > 0)


def where(shares: np.ndarray, sites: list[str]) -> np.ndarray:
    """str [n]: the site that has EXCLUSIVE of a latent, "shared" where every site has at least half of an even share, else
    "between"."""
    own = shares >= EXCLUSIVE
    even = (shares >= 0.5 / len(sites)).all(1)
    return np.where(own.any(1), np.array(sites)[own.argmax(1)], np.where(even, "shared", "between"))


def between_sites(sides: Sides, pairs: np.ndarray, index: np.ndarray) -> dict[str, Any]:
    """How latents of several sites lie among them, by relative decoder norm.

    Args:
      pairs: bool [n], latents that are shared with the other dictionary and mutually nearest. index: int [n], the nearest.

    Returns:
      `own`, `other` {"shared", "between" or a site: latents}; `agree`: share of the pairs that lie alike in both, with
      `by_chance` beside it; `share_correlation` of the first site's share over the pairs; `same_direction`: mean cosine of a
      latent's rows at two sites, {"site, site": mean} of the dictionary that is judged, where sites are equally wide.
    """
    sites = [site for site in sides.own if site != ALL]
    here, there = (where(shares, sites) for shares in (sides.own_shares, sides.other_shares))
    count = lambda kinds: {name: int((kinds == name).sum()) for name in ("shared", *sites, "between")}
    out: dict[str, Any] = {"own": count(here), "other": count(there), "agree": None, "by_chance": None}
    out |= {"share_correlation": None, "same_direction": {}}
    if pairs.any():
        matched = there[index[pairs]]
        names = np.unique(here[pairs])
        out["agree"] = float((here[pairs] == matched).mean())
        out["by_chance"] = float(sum((here[pairs] == n).mean() * (matched == n).mean() for n in names))
        a, b = sides.own_shares[pairs, 0], sides.other_shares[index[pairs], 0]
        if len(a) > 2 and a.std() > 0 and b.std() > 0:
            out["share_correlation"] = float(np.corrcoef(a, b)[0, 1])
    for i, first in enumerate(sites):
        for second in sites[i + 1 :]:
            a, b = sides.own[first], sides.own[second]
            both = a.any(1) & b.any(1)
            if a.shape == b.shape and both.any():
                out["same_direction"][f"{first}, {second}"] = float(np.einsum("nd,nd->n", a, b)[both].mean())
    return out
