"""What the steps of all packages are made with."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from jaxsae.benchmark.dead import DEAD_LENGTH, dead_latents

DEAD_ROWS = 10**7  # without firing, after which a latent is dead to the trainers of all three packages
LEARNING_RATE = 1e-6  # so small that the latents fire at the last step that is timed as at the first
# A batch [rows, d] -> None; its `dead_share()`: of the latents, dead since before the first.
Step = Callable[[Any], Any]


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a step is made for: all that is the same in every package.

    Attributes:
      k: latents of a row, where the architecture ranks them. target_l0: what JumpReLU aims at; 0: it has a plain penalty.
      prefixes: Matryoshka's, the last `width`. repeats: how often the step is timed. dead_fraction: of the latents.
    """

    d_model: int
    width: int
    k: int
    target_l0: float
    prefixes: tuple[int, ...]
    batch_size: int
    repeats: int
    seed: int
    dead_fraction: float


@dataclasses.dataclass(frozen=True)
class Peer:
    """A package.

    Attributes:
      module: what is imported. steps: {our name of an architecture: {name of the timing: what makes the step}}, for
        those architectures that the package trains.
    """

    module: str
    steps: Mapping[str, Mapping[str, Callable[[Sizes], Step]]]


def device() -> str:
    """Where torch computes."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def kill(encoder, sizes: Sizes):
    """bool [n], the dead latents; their rows of the encoder's weights [n, d] are made too short to fire."""
    import torch

    dead = torch.from_numpy(dead_latents(encoder.shape[0], sizes.dead_fraction)).to(encoder.device)
    with torch.no_grad():
        encoder[dead] *= DEAD_LENGTH
    return dead


def share(mask) -> float:
    """Of the latents that were dead when the timing began, and still are."""
    return float(mask.float().mean())
