"""Where the rows of a store come from."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from jaxsae.store import Plan

# Activations {site: [n, d_model]} and columns {name: int32 [n]} of a shard.
Shard = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]


class Source:
    """A plan, and its shards in any order.

    Attributes:
      together: whether the processes of a run make every shard together, all in the same order, whoever writes it.
    """

    plan: Plan
    together = False

    def shard(self, shard: int) -> Shard:
        """One shard."""
        raise NotImplementedError

    def shards(
        self, numbers: Sequence[int], mine: Callable[[int], bool], goes_on: Callable[[], bool]
    ) -> Iterator[tuple[int, Shard]]:
        """Shards one after the other, each with its number.

        Args:
          numbers: those to make. mine: whether this process has use for one. goes_on: asked before each is made.
        """
        for number in numbers:
            if not goes_on():
                return
            if mine(number):
                yield number, self.shard(number)
