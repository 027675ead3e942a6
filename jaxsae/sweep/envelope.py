"""What members' training curves say: whether a member has converged, when it did, and the least loss at each compute."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from jaxsae.sweep.members import Member

UNDERTRAINED = 0.05  # share of the FVU that twice the tokens would take off
CONVERGED = 0.05  # a curve has converged where it stays within this share of its end
POINTS = 32  # of an envelope
_FIRST = 0.05  # share of a run that is left out as warm-up
_SMOOTH = 20  # a curve's moving average spans 1/20 of it


def gain_of_doubling(curve: Mapping[str, np.ndarray]) -> float | None:
    """Share by which twice the tokens would lower the FVU, by the slope of ln FVU over ln tokens in the last half.

    None for a curve of fewer than 4 points there. Where the learning rate falls at the end, so does the loss, and the figure
    says more than twice the tokens would bring.
    """
    if not len(curve["tokens"]):
        return None
    last = curve["tokens"] >= curve["tokens"][-1] / 2
    if last.sum() < 4:
        return None
    slope = np.polyfit(np.log(curve["tokens"][last]), np.log(curve["fvu"][last]), 1)[0]
    return float(1 - 2.0**slope)


def is_undertrained(member: Member) -> bool | None:
    """Whether the member's curve was still falling at its end; None where it has no curve to tell."""
    gain = gain_of_doubling(member.curve)
    return None if gain is None else gain > UNDERTRAINED


def tokens_to_converge(curve: Mapping[str, np.ndarray]) -> float | None:
    """Tokens from which the smoothed FVU stays within 5% of its last value; None for an empty curve."""
    if not len(curve["tokens"]):
        return None
    log_fvu, log_tokens = smooth(np.log(curve["fvu"])), np.log(curve["tokens"])
    above = np.flatnonzero(log_fvu > log_fvu[-1] + math.log1p(CONVERGED))
    if not len(above):
        return float(curve["tokens"][0])
    i = above[-1]  # the last point outside; the crossing lies between it and the next
    share = (log_fvu[i] - log_fvu[-1] - math.log1p(CONVERGED)) / (log_fvu[i] - log_fvu[i + 1])
    return float(np.exp(log_tokens[i] + share * (log_tokens[i + 1] - log_tokens[i])))


def smooth(values: np.ndarray) -> np.ndarray:
    """Centred moving average over about a twentieth of the points, shorter at the ends."""
    half = len(values) // (2 * _SMOOTH)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    reach = np.minimum(half, np.minimum(index, len(values) - 1 - index))
    return (sums[index + reach + 1] - sums[index - reach]) / (2 * reach + 1)


def after_warm_up(member: Member, points: int = 16) -> dict[str, np.ndarray]:
    """{"tokens", "flops", "fvu"}: the smoothed curve after its first twentieth, evenly thinned in ln tokens."""
    curve = member.curve
    if not len(curve["tokens"]):
        return dict(curve)
    tokens, fvu = curve["tokens"], np.exp(smooth(np.log(curve["fvu"])))
    first = max(tokens[0], _FIRST * tokens[-1])
    index = np.flatnonzero(tokens >= first)
    if len(index) > points:
        wanted = np.geomspace(first, tokens[-1], points) * (1 - 1e-9)
        index = np.unique(np.clip(np.searchsorted(tokens, wanted), 0, len(tokens) - 1))
    return {"tokens": tokens[index], "flops": curve["flops"][index], "fvu": fvu[index]}


@dataclasses.dataclass(frozen=True)
class Envelope:
    """The least FVU at each compute, and whose it is.

    Attributes:
      flops: [P], rising. fvu: [P], falling. owner: [P], index of the member whose curve it is.
      contested: [P], whether the point tells of the best width: see `envelope`.
      names, widths: of the members.
    """

    flops: np.ndarray
    fvu: np.ndarray
    owner: np.ndarray
    contested: np.ndarray
    names: tuple[str, ...]
    widths: np.ndarray


def envelope(members: Sequence[Member]) -> Envelope | None:
    """The frontier of members' smoothed curves over compute (Gao et al., arXiv 2406.04093, section 3.1).

    Points are evenly spread in ln C, from the start of the first curve to the end of the longest. A point at
    which no member is better than at less compute is left out: more compute would not be spent there. Where the
    smallest width leads, a smaller one might do better: of its points only the last, where the next takes over, is
    `contested`. None where fewer than 2 members have curves.
    """
    # Warm-up need not be cut off: a curve that still falls steeply leads nowhere but at the start of the smallest.
    curves = [
        (m, m.curve | {"fvu": np.exp(smooth(np.log(m.curve["fvu"])))}) for m in members if len(m.curve["tokens"]) > 1
    ]
    if len(curves) < 2:
        return None
    start = min(curve["flops"][0] for _, curve in curves)
    stop = max(curve["flops"][-1] for _, curve in curves)
    flops = np.geomspace(start, stop, POINTS)
    flops[0], flops[-1] = start, stop  # geomspace may miss its ends by a rounding
    log_fvu = np.stack(
        [
            np.interp(np.log(flops), np.log(curve["flops"]), np.log(curve["fvu"]), left=np.inf, right=np.inf)
            for _, curve in curves
        ]
    )
    owner, best = log_fvu.argmin(0), log_fvu.min(0)
    before = np.minimum.accumulate(np.concatenate([[np.inf], best[:-1]]))
    kept = np.isfinite(best) & (best < before)
    widths = np.array([m.width for m, _ in curves])
    owner = owner[kept]
    contested = widths[owner] > widths.min()
    contested |= np.append(contested[1:], len(set(widths)) == 1)
    names = tuple(m.name for m, _ in curves)
    return Envelope(flops[kept], np.exp(best[kept]), owner, contested, names, widths)
