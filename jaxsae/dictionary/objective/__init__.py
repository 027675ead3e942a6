"""What the reconstruction must match."""

from jaxsae.dictionary.objective.base import Objective
from jaxsae.dictionary.objective.by_rank import ByRank
from jaxsae.dictionary.objective.nested import NestedPrefixes
from jaxsae.dictionary.objective.squared_error import SquaredError

__all__ = ["ByRank", "NestedPrefixes", "Objective", "SquaredError"]
