"""What stands at a place of a torch model, seen and replaced in its forward passes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from jaxsae.lm.sites import Place


@contextmanager
def hooked(model: Any, place: Place, function: Callable[[Any], Any]) -> Iterator[None]:
    """Calls `function` on the tensor at a place of a model; what it returns, if anything, takes the tensor's place."""
    module = model.get_submodule(place.path)
    if place.scale != 1:
        unscaled, function = function, lambda x: _divided(unscaled(x * place.scale), place.scale)

    def before(_, args: tuple, kwargs: dict) -> tuple | None:
        name = None if args else "hidden_states" if "hidden_states" in kwargs else next(iter(kwargs), None)
        new = function(args[0] if args else kwargs.get(name))
        if new is None:
            return None
        return ((new, *args[1:]), kwargs) if args else (args, kwargs | {name: new})

    def after(_, args: tuple, output: Any) -> Any:
        several = isinstance(output, tuple | list)  # GPT's blocks give lists
        new = function(output[0] if several else output)
        return type(output)([new, *output[1:]]) if new is not None and several else new

    if place.input:
        handle = module.register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = module.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()


def _divided(x: Any, scale: float) -> Any:
    return None if x is None else x / scale
