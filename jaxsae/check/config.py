"""Flags of `jaxsae check`."""

import dataclasses
import secrets

from jaxsae.benchmark.config import PEERS
from jaxsae.config import check, check_positive, option

MOST_MINUTES = 7 * 24 * 60
PARTS = ("kernels", "ceilings", "steps", "training")


@dataclasses.dataclass(frozen=True)
class CheckConfig:
    """What is checked, for how long, and where the findings go."""

    json: str = option("", "file for the findings, written anew with each of them; default: none")
    minutes: float = option(10.0, "after which it ends, with what was found by then")
    parts: tuple[str, ...] = option(PARTS, f"what to check, of {', '.join(PARTS)}; their order is always this one")
    only: str = option("", "only checks whose name holds this, such as mosaic_gpu or step")
    compare: tuple[str, ...] = option(
        ("sparsify",), "packages whose step is timed beside ours where they are installed"
    )
    seed: int | None = option(None, "of all random inputs; default: a fresh one, which the findings name")

    def __post_init__(self):
        check_positive(self, "minutes")
        check(self.minutes <= MOST_MINUTES, "minutes", self.minutes, f"must be at most {MOST_MINUTES}, a week")
        for flag, known in (("parts", PARTS), ("compare", PEERS)):
            unknown = [name for name in getattr(self, flag) if name not in known]
            check(not unknown, flag, ",".join(getattr(self, flag)), f"choose from {', '.join(known)}")
        check(bool(self.parts), "parts", "", f"choose from {', '.join(PARTS)}")
        check(self.seed is None or self.seed >= 0, "seed", self.seed, "must be 0 or more")

    def seeded(self) -> "CheckConfig":
        """The same, with a seed."""
        return dataclasses.replace(self, seed=secrets.randbits(31)) if self.seed is None else self
