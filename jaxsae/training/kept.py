"""Which checkpoints of a run stay when a new one is saved."""

import dataclasses
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Kept:
    """The newest ones, and the newest from before the rate falls: the one that a run of more tokens goes on from.

    A preservation policy of Orbax.

    Attributes:
      newest: how many of the newest. before_fall: the step at which the rate begins to fall; None: nothing more is kept.
    """

    newest: int
    before_fall: int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """For each of the checkpoints, which have a `step`, whether it stays."""
        steps = [checkpoint.step for checkpoint in checkpoints]
        falling = self.before_fall is not None and max(steps, default=0) > self.before_fall
        extra = {max((step for step in steps if step <= self.before_fall), default=0)} if falling else set()
        stay = extra | set(sorted(set(steps) - extra)[-self.newest :])
        return [step in stay for step in steps]
