"""One other dictionary beside the one that is judged."""

import dataclasses
from typing import Any

import numpy as np
import scipy.sparse as sp

from jaxsae.evaluate import intervals
from jaxsae.evaluate.against import Other, differences, is_other_seed
from jaxsae.evaluate.compare import kinds
from jaxsae.evaluate.compare.chance import above, by_chance
from jaxsae.evaluate.compare.cosines import Nearest, mcc, nearest, summed
from jaxsae.evaluate.compare.firing import Firing, Rows
from jaxsae.evaluate.compare.sides import Sides, between_sites
from jaxsae.evaluate.context import Context

_PER_DECADE = 2  # bins of frequency


@dataclasses.dataclass(frozen=True)
class _Matched:
    """Nearest latents both ways at one site, and what they make of each other."""

    own: Nearest
    others: Nearest
    own_kinds: np.ndarray
    other_kinds: np.ndarray
    together: np.ndarray
    parts: np.ndarray

    @classmethod
    def of(cls, a: np.ndarray, b: np.ndarray, threshold: float, parts: int, absolute: bool) -> "_Matched":
        own, others = nearest(a, b, absolute)
        (here, which), (there, _) = (
            _sums(a, b, own, threshold, parts, absolute),
            _sums(b, a, others, threshold, parts, absolute),
        )
        found = kinds.kinds(own, others, here, threshold), kinds.kinds(others, own, there, threshold)
        return cls(own, others, *found, here, which)

    def figures(self, alive: tuple[np.ndarray, np.ndarray] | None = None) -> dict[str, Any]:
        """`own` and `other`, of the latents that are `alive`, or of all."""
        sides = ((self.own, self.own_kinds, self.others), (self.others, self.other_kinds, self.own))
        out = {}
        for number, (name, (here, found, there)) in enumerate(zip(("own", "other"), sides, strict=True)):
            counted = np.ones(len(found), bool) if alive is None else alive[number]
            out[name] = kinds.figures(here, found, kinds.mutual(here, there), counted)
        return out

    def pairs(self, threshold: float) -> np.ndarray:
        """bool [n]: mutually nearest and shared."""
        return kinds.mutual(self.own, self.others) & (self.own.cosine >= threshold)


def _sums(a: np.ndarray, b: np.ndarray, own: Nearest, threshold: float, parts: int, absolute: bool):
    """Cosines [n] of rows that are not shared with the best sum of several, and which those are [n, parts]."""
    far = own.there & (own.cosine < threshold)
    together, which = np.zeros(len(a), np.float32), np.full((len(a), parts), -1)
    if far.any():
        found, which[far] = summed(a[far], b, parts, absolute)
        together[far] = found[:, -1]
    return together, which


def compare(
    context: Context, other: Other, rows: Rows | None, own: sp.csr_matrix | None
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Figures of a pair, and what is known of each latent.

    Args:
      rows: on which firing is looked at; None: it is not. own: latents of the dictionary that is judged on them.
    """
    config, flags = context.config, context.config.compare
    threshold, absolute = (
        flags.compare_threshold,
        "abstopk"
        in (
            context.dictionary.config.architecture,
            other.method.architecture,
        ),
    )
    sides = Sides.of(context, other)
    matched = {
        site: _Matched.of(a, sides.other[site], threshold, flags.compare_parts, absolute)
        for site, a in sides.own.items()
    }
    main, (a, b) = next(iter(matched.values())), (next(iter(x.values())) for x in (sides.own, sides.other))
    pairs = main.pairs(threshold)
    differs = differences(config.run, other, context.dictionary)
    found = {
        "architecture": other.method.architecture,
        "width": other.method.width,
        "k": other.method.told_k,
        "step": other.step,
        "differs": differs,
        "other_seed": is_other_seed(differs),
        "absolute": absolute,
        "mcc": mcc(a[main.own.there], b[main.others.there], absolute),
        **main.figures(),
        "baselines": by_chance(a, b, threshold, flags.compare_parts, absolute, config.seed),
        "curve": above(main.own.cosine[main.own.there]),
    }
    arrays = _arrays(main)
    if len(sides.own) > 1:
        each = {site: m.figures() for site, m in list(matched.items())[1:]}
        found |= {"sites": each, "between_sites": between_sites(sides, pairs, main.own.index)}
    if rows is not None:
        theirs = rows.latents(other.dictionary, other.reads)
        firing = Firing.of(own, theirs, main.own.index, config.seed)
        alive = firing.count > 0, np.asarray((theirs != 0).sum(0)).ravel() > 0
        found |= {"firing": firing.figures(pairs, main.own.index), "alive": main.figures(alive)}
        found["l0"] = {"own": own.nnz / rows.count, "other": theirs.nnz / rows.count}
        found["by_frequency"] = by_frequency(firing.count / rows.count, main.own_kinds)
        arrays |= {name: getattr(firing, name) for name in ("count", "f1", "correlation", "best_f1", "best")}
    return found, arrays


def by_frequency(frequency: np.ndarray, found: np.ndarray) -> list[dict[str, Any]]:
    """Latents by how often they fire: `low`, `high` (shares of the rows), `latents`, `shared` with its interval."""
    fires = (frequency > 0) & (found != kinds.NONE)
    if not fires.any():
        return []
    bins = np.floor(np.log10(frequency[fires]) * _PER_DECADE).astype(int)
    shared, out = np.isin(found[fires], kinds.SHARED), []
    for number in np.unique(bins):
        of = shared[bins == number]
        ends = {"low": 10 ** (number / _PER_DECADE), "high": 10 ** ((number + 1) / _PER_DECADE)}
        share = {"shared": of.mean(), "shared_interval": intervals.of_share(of.sum(), len(of))}
        out.append(ends | {"latents": len(of)} | share)
    return out


def _arrays(m: _Matched) -> dict[str, np.ndarray]:
    own = {"nearest": m.own.index, "cosine": m.own.cosine, "second": m.own.second, "kind": m.own_kinds}
    sums = {"sum_cosine": m.together, "sum_of": m.parts}
    other = {"other_nearest": m.others.index, "other_cosine": m.others.cosine, "other_kind": m.other_kinds}
    return own | sums | other
