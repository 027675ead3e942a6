"""One check: its name, what it runs, and how its verdicts become an outcome."""

import dataclasses
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxsae.check.findings import PASSED, WRONG, Outcome
from jaxsae.check.judge import Verdict, worst
from jaxsae.check.poisoned import Poisoned, bits


@dataclasses.dataclass(frozen=True)
class Check:
    """A check; see `findings.Finding` for the attributes that they share.

    Attributes:
      run: (generator of its random inputs) -> Outcome.
    """

    name: str
    part: str
    implementation: str
    shapes: Mapping[str, Any]
    run: Callable[[np.random.Generator], Outcome]
    interpreted: bool = False

    def generator(self, seed: int) -> np.random.Generator:
        """Keyed by seed and name, so that a check draws the same whichever others are run."""
        return np.random.default_rng([seed, zlib.crc32(self.name.encode())])


def shapes_of(batch: int, d: int, width: int, k: int, dtype: str) -> dict[str, int | str]:
    """As findings have them."""
    return {"batch": batch, "d_model": d, "width": width, "k": k, "dtype": dtype}


def judged(verdicts: Mapping[str, Verdict], same: str = "", **figures: Any) -> Outcome:
    """The outcome of a check by cases.

    Args:
      same: what is wrong with the bits of a second call on the same input; empty: nothing.
      figures: to go along with the error and bound of each case.
    """
    nearest = worst(list(verdicts.values()))
    wrong = [f"{case}: {v.wrong}" for case, v in verdicts.items() if v.wrong] + ([same] if same else [])
    figures["cases"] = {case: {"error": v.error, "bound": v.bound, "wrong": v.wrong} for case, v in verdicts.items()}
    return Outcome(WRONG if wrong else PASSED, nearest.error, nearest.bound, "; ".join(wrong), figures)


def repeats(program: Poisoned, arguments: Sequence[Any], before: Any) -> str:
    """What is wrong with the bits of another call on the same input; empty: they are those of `before`."""
    return "" if bits(program(*arguments)) == bits(before) else "two calls on the same input differ in their bits"
