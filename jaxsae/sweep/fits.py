"""All laws of a sweep: `fit_all` takes the members of sweep.json and gives its `fits`.

L is the FVU on held-out rows, which is the normalised MSE of Gao et al. (arXiv 2406.04093); along curves it is that
of the batches trained on. Members that differ in their architecture are fitted apart; of those that differ in other flags
(learning rate, tokens, ...) the best setting of each width and k is fitted, with all its seeds. Members with `held_out`
are not fitted but predicted.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxsae.numbers import plain
from jaxsae.sweep import answers, laws
from jaxsae.sweep.bootstrap import LEVEL, RESAMPLES, Bootstrap, bootstrap
from jaxsae.sweep.envelope import (
    CONVERGED,
    UNDERTRAINED,
    after_warm_up,
    envelope,
    gain_of_doubling,
    is_undertrained,
    tokens_to_converge,
)
from jaxsae.sweep.fit import fit, why_not
from jaxsae.sweep.fits_json import described
from jaxsae.sweep.members import Member, best_settings, by_architecture, by_k, read_members

TARGETS = (0.01, 0.03, 0.1, 0.3)  # nats a token, those among them that members reach or nearly do
_FEW_CLUSTERS = 3


def fit_all(
    members: Iterable[Mapping[str, Any]],
    compute: Sequence[float] = (),
    target_delta_ce: Sequence[float] = (),
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Fits every law that the members suffice for; the same members and seed give the same figures.

    Args:
      members: `members` of sweep.json; those without figures are passed over.
      compute: flops budgets to split into width and tokens; default: the largest member's, and ten times that.
      target_delta_ce: nats a token to find k for; default: those of 0.01, 0.03, 0.1, 0.3 that are within reach.
      seed: of the bootstrap. resamples: of the bootstrap.

    Returns:
      `loss`, `interval` (how intervals are made), `architectures` {name: {`joint`, `held_out`, `convergence`, `tokens`,
      `compute`, `allocation`, `delta_ce`, `best_k`}}, `left_out` (each law that was not fitted and why), `warnings`.
      A law has `equation`, `reference`, `constants` {name: {value, interval}}, `members`, `range`, `points`, `sigma`
      (standard deviation of ln L around it), `starts`, `agreeing_starts`, `identified`, `outliers`; those at fixed k stand
      in lists, with their `k`.
    """
    usable, warnings = read_members(members)
    out: dict[str, Any] = {
        "loss": "fvu",
        "interval": f"{100 * LEVEL:g}%, parametric bootstrap (along curves: wild, by member), expanded percentiles",
        "architectures": {},
        "left_out": [],
        "warnings": warnings,
    }
    if not usable:
        out["left_out"].append({"fit": "all", "architecture": None, "k": None, "why": "no member has finished yet"})
    for name, own in by_architecture(usable).items():
        job = _Fits(name, own, out["left_out"], warnings, seed, resamples)
        out["architectures"][name] = job.run(compute, target_delta_ce)
    return plain(out)


class _Fits:
    """The laws of one architecture."""

    def __init__(self, name: str, members: list[Member], left_out: list, warnings: list, seed: int, resamples: int):
        self.name, self.left_out, self.warnings = name, left_out, warnings
        self.seed, self.resamples = seed, resamples
        self.held_out = [m for m in members if m.held_out]
        self.all = [m for m in members if not m.held_out]
        self.best = best_settings(self.all)

    def run(self, compute: Sequence[float], targets: Sequence[float]) -> dict[str, Any]:
        """All of them, as far as members suffice."""
        self._warn_undertrained()
        joint = self._joint()
        out: dict[str, Any] = {
            "joint": joint and described(joint, self.best),
            "held_out": [self._predict(joint, m) for m in self.held_out] if joint else [],
            "convergence": [],
            "tokens": [],
            "compute": [],
            "allocation": [],
        }
        if not by_k(self.best):
            self._leave_out("all laws at fixed k", "this architecture has no k: L0 differs from width to width")
        for k, own in by_k(self.best).items():
            self._add(out["convergence"], k, self._convergence(k, own))
            self._add(out["tokens"], k, self._tokens(k, own))
            self._add(out["allocation"], k, self._allocation(k, own, compute))
        for k, own in by_k(self.all).items():
            self._add(out["compute"], k, self._compute(k, own))
        return out | self._delta_ce(targets)

    @staticmethod
    def _add(out: list, k: float, found: dict[str, Any] | None) -> None:
        if found:
            out.append({"k": k} | found)

    def _fit(
        self, law: laws.Law, x: Mapping[str, Any], y: Any, k: float | None = None, clusters: Sequence | None = None
    ) -> Bootstrap | None:
        """The law with its refits; None, and a line in `left_out`, where points do not suffice."""
        reason = why_not(law, x)
        if not reason and clusters is not None and len(set(clusters)) < _FEW_CLUSTERS:
            reason = f"needs {_FEW_CLUSTERS} members (there are {len(set(clusters))})"
        if reason:
            self._leave_out(law.name, reason, k)
            return None
        return bootstrap(fit(law, x, y), self.seed, self.resamples, clusters)

    def _leave_out(self, law: str, reason: str, k: float | None = None) -> None:
        self.left_out.append({"fit": law, "architecture": self.name, "k": k, "why": reason})

    def _warn_undertrained(self) -> None:
        falling = {m.name: gain_of_doubling(m.curve) for m in self.best if is_undertrained(m)}
        if falling:
            listed = ", ".join(f"{name} ({100 * gain:.0f}%)" for name, gain in falling.items())
            self.warnings.append(
                f"{self.name}: {len(falling)} of {len(self.best)} members are under-trained: twice the tokens would lower "
                f"their FVU by more than {100 * UNDERTRAINED:g}%: {listed}. The joint law is that of members as long as "
                "these, and they are left out of L(n) at convergence and of its tokens."
            )
        if blind := [m.name for m in self.best if is_undertrained(m) is None]:
            self.warnings.append(f"{self.name}: no curve tells whether these have converged: {', '.join(blind)}.")

    def _joint(self) -> Bootstrap | None:
        x = {"n": [m.width for m in self.best], "k": [m.k for m in self.best]}
        found = self._fit(laws.JOINT, x, [m.fvu for m in self.best])
        if found and not found.fit.identified:
            self.warnings.append(
                f"{self.name}: these members do not determine every constant of the joint law: it is good for what lies "
                "between them. More widths and values of k would."
            )
        if not found:
            found = self._fit(laws.JOINT_WITHOUT_FLOOR, x, [m.fvu for m in self.best])
            if found:
                self.warnings.append(
                    f"{self.name}: too few members for the joint law; its first term alone is fitted, which falls without "
                    "end in n: good between members, not beyond them."
                )
        return found

    def _predict(self, joint: Bootstrap, member: Member) -> dict[str, Any]:
        """What the joint law says of a member that it has not seen."""
        predicted, interval = joint.prediction(self.seed, n=member.width, k=member.k)
        beyond = joint.fit.beyond(n=member.width, k=member.k)
        if beyond:
            self.warnings.append(f"{self.name}: the prediction for {member.name} is an extrapolation: {beyond}.")
        return {
            "name": member.name,
            "width": member.width,
            "k": member.k,
            "fvu": member.fvu,
            "predicted": predicted,
            "interval": interval,
            "error": predicted / member.fvu - 1,
            "inside": None if interval is None else interval[0] <= member.fvu <= interval[1],
            "extrapolation": beyond,
        }

    def _convergence(self, k: float, members: list[Member]) -> dict[str, Any] | None:
        converged = [m for m in members if is_undertrained(m) is False]
        found = self._fit(laws.CONVERGENCE, {"n": [m.width for m in converged]}, [m.fvu for m in converged], k)
        return found and described(found, converged)

    def _tokens(self, k: float, members: list[Member]) -> dict[str, Any] | None:
        converged = [m for m in members if is_undertrained(m) is False]
        tokens = [tokens_to_converge(m.curve) for m in converged]
        found = self._fit(laws.TOKENS, {"n": [m.width for m in converged]}, tokens, k)
        if not found:
            return None
        rule = f"tokens from which the FVU stays within {100 * CONVERGED:g}% of its end"
        table = [{"name": m.name, "width": m.width, "tokens": t} for m, t in zip(converged, tokens, strict=True)]
        return described(found, converged) | {"rule": rule, "converged": table}

    def _compute(self, k: float, members: list[Member]) -> dict[str, Any] | None:
        frontier = envelope(members)
        if frontier is None:
            self._leave_out(laws.COMPUTE.name, "needs 2 members with training curves", k)
            return None
        names = [frontier.names[i] for i in frontier.owner]
        points = {
            "flops": frontier.flops.tolist(),
            "fvu": frontier.fvu.tolist(),
            "width": frontier.widths[frontier.owner].tolist(),
            "fitted": frontier.contested.tolist(),
        }
        used = frontier.contested
        names = [name for name, fitted in zip(names, used, strict=True) if fitted]
        found = self._fit(laws.COMPUTE, {"C": frontier.flops[used]}, frontier.fvu[used], k, clusters=names)
        about = described(found, [m for m in members if m.name in set(names)]) if found else {"constants": None}
        return about | {"envelope": points}

    def _allocation(self, k: float, members: list[Member], compute: Sequence[float]) -> dict[str, Any] | None:
        curves = [(m, after_warm_up(m)) for m in members]
        count = [len(curve["tokens"]) for _, curve in curves]
        join = lambda name: np.concatenate([curve[name] for _, curve in curves])
        names = np.repeat([m.name for m in members], count)
        x = {"n": np.repeat([m.width for m in members], count), "D": join("tokens")}
        found = self._fit(laws.ALLOCATION, x, join("fvu"), k, clusters=names)
        known = [m for m in members if math.isfinite(m.flops) and math.isfinite(m.tokens)]
        if not found or not known:
            return None
        cost = answers.flops_a_token(known)
        largest = max(m.flops for m in known)
        optima = [answers.optimal_allocation(found, cost, c) for c in compute or (largest, 10 * largest)]
        for best in optima if compute else ():  # those that nobody asked for say it in their row alone
            if best["extrapolation"]:
                where = f"{self.name}, k = {k:g}: the optimum for {best['flops']:.3g} FLOPs"
                self.warnings.append(f"{where} goes beyond the members: {best['extrapolation']}.")
        about = {"exponents": answers.exponents(found), "optima": optima}
        return described(found, members) | about | {"flops_a_token": {"c0": cost[0], "c1": cost[1]}}

    def _delta_ce(self, targets: Sequence[float]) -> dict[str, Any]:
        spliced = [m for m in self.best if m.delta_ce is not None]
        members = [m for m in spliced if m.delta_ce > 0]
        if len(members) < len(spliced):
            self.warnings.append(
                f"{self.name}: {len(spliced) - len(members)} members with a delta CE of 0 or less are not fitted."
            )
        widths = sorted({m.width for m in members})
        x = {"n": [m.width for m in members], "k": [m.k for m in members]}
        law = laws.DELTA_CE if len(widths) > 1 else laws.DELTA_CE_OF_K
        if not spliced:
            self._leave_out(
                law.name, "no member has a delta CE; a sweep measures it where the language model is at hand"
            )
            return {"delta_ce": None, "best_k": []}
        delta = [m.delta_ce for m in members]
        found = self._fit(law, x, delta)
        if not found:
            return {"delta_ce": None, "best_k": []}
        reach = [t for t in TARGETS if min(delta) / 3 <= t <= 3 * max(delta)]
        rows = [answers.best_k(found, t, float(n)) for t in targets or reach for n in widths]
        for row in rows:
            if targets and row["extrapolation"]:
                where = f"{self.name}: the k for delta CE {row['delta_ce']:g} at width {row['width']:,.0f}"
                self.warnings.append(f"{where} is an extrapolation: {row['extrapolation']}.")
        return {"delta_ce": described(found, members), "best_k": rows}
