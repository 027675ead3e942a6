"""What stands in for a model's activations in a forward pass, made of those at the same site or at earlier ones."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxsae.errors import InputError


@dataclasses.dataclass(frozen=True)
class StandIn:
    """What is to stand at a site.

    Attributes:
      function: of float32 activations [positions kept, d] that gives those to stand there.
      reads: the sites whose activations it takes, side by side, as they come in the same pass; empty: its own.
    """

    function: Callable[[np.ndarray], np.ndarray]
    reads: tuple[str, ...] = ()

    def at(self, site: str, seen: Mapping[str, np.ndarray]) -> np.ndarray:
        """What is to stand at `site`; `seen`: {site: activations [positions kept, d]}."""
        return np.asarray(self.function(np.concatenate([seen[name] for name in self.reads or (site,)], 1)))


class Pass:
    """One forward pass with `stand_ins`, {site: what stands there}, at some positions of each tensor [B, T, d].

    Args:
      rows: tensor -> its rows at these positions as float32 NumPy [positions, d]. put: (tensor, new rows) -> the tensor
        with them there.
    """

    def __init__(
        self,
        stand_ins: Mapping[str, StandIn],
        rows: Callable[[Any], np.ndarray],
        put: Callable[[Any, np.ndarray], Any],
    ):
        self._stand_ins, self._rows, self._put = stand_ins, rows, put
        self._seen: dict[str, np.ndarray] = {}

    @property
    def hooks(self) -> list[tuple[str, Callable[[Any], Any]]]:
        """(site, function of the tensor there, which gives the one to stand in its place, or None), in the order in which
        they are called at one site: what is replaced is read as it then is."""
        read = dict.fromkeys(name for stand_in in self._stand_ins.values() for name in stand_in.reads)
        swap = [(site, lambda x, site=site: self._swap(site, x)) for site in self._stand_ins]
        return swap + [(site, lambda x, site=site: self._keep(site, x)) for site in read]

    def _keep(self, site: str, x: Any) -> None:
        self._seen[site] = self._rows(x)

    def _swap(self, site: str, x: Any) -> Any:
        stand_in = self._stand_ins[site]
        late = [name for name in stand_in.reads if name not in self._seen]
        if late:
            raise InputError(f"site {late[0]} comes after {site}, which is to be made of it")
        seen = self._seen if stand_in.reads else {site: self._rows(x)}
        return self._put(x, stand_in.at(site, seen))
