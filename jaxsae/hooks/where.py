"""Which positions of a batch a hook changes."""

import dataclasses
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from jaxsae.errors import InputError

ROLES = ("bos", "eos", "sep", "cls", "pad", "mask")


@dataclasses.dataclass(frozen=True)
class Where:
    """`positions` and `special` as `api.splice` has them."""

    positions: Any = None
    special: Collection[int] | None = None

    def mask(
        self, ids: Any, shape: tuple[int, ...], own: Collection[int], constant: Callable[[np.ndarray], Any]
    ) -> Any:
        """bool [B, T] of activations [B, T, d], in the library of `ids`; None: everywhere.

        Args:
          ids: [B, T], what the pass was given; None where it was given none. shape: (B, T).
          own: the special tokens that the model names. constant: makes an array of the library.

        Raises:
          InputError: positions that do not fit; a function of ids, where there are none.
        """
        by_ids = callable(self.positions) or bool(self.special)
        fits = ids is not None and tuple(ids.shape) == tuple(shape)
        if by_ids and not fits:
            what = "none" if ids is None else f"{list(ids.shape)}"
            raise InputError(f"hooks: positions follow from ids {list(shape)}, and the model was given {what}.")
        found = None if self.positions is None else self._given(ids, shape, constant)
        special = self.special if self.special is not None else own if self.positions is None and fits else ()
        for token in special:
            there = ids != int(token)
            found = there if found is None else found & there
        return found

    def _given(self, ids: Any, shape: tuple[int, ...], constant: Callable[[np.ndarray], Any]) -> Any:
        positions = self.positions(ids) if callable(self.positions) else self.positions
        if isinstance(positions, slice):
            mask = np.zeros(shape[-1:], bool)
            mask[positions] = True
            return constant(np.broadcast_to(mask, shape).copy())
        if not hasattr(positions, "shape"):
            positions = np.asarray(positions)
        if not str(positions.dtype).endswith("bool"):
            return self._numbered(np.asarray(positions), shape, constant)
        if tuple(positions.shape) not in (tuple(shape), tuple(shape[-1:])):
            raise InputError(
                f"hooks: positions {list(positions.shape)} do not fit activations of {list(shape)} positions"
            )
        array = constant(positions)
        return array if len(array.shape) == len(shape) else array[None] & constant(np.ones(shape, bool))

    @staticmethod
    def _numbered(numbers: np.ndarray, shape: tuple[int, ...], constant: Callable[[np.ndarray], Any]) -> Any:
        if numbers.dtype.kind not in "iu" or numbers.ndim > 1:
            raise InputError("hooks: positions: give a bool mask [B, T] or [T], a slice, numbers, or a function of ids")
        last = shape[-1]
        if numbers.size and not -last <= numbers.min() <= numbers.max() < last:
            raise InputError(f"hooks: positions {numbers.tolist()}: a sequence has {last}")
        mask = np.zeros(last, bool)
        mask[numbers] = True
        return constant(np.broadcast_to(mask, shape).copy())


def special_of(config: Any) -> tuple[int, ...]:
    """The ids of special tokens that a model's own configuration names."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    found: dict[int, None] = {}
    for role in ROLES:
        ids = getattr(text, f"{role}_token_id", None)
        found |= dict.fromkeys(i for i in (ids if isinstance(ids, list | tuple) else [ids]) if isinstance(i, int))
    return tuple(found)
