"""Flags of `jaxsae benchmark`."""

import dataclasses
from typing import Literal

from jaxsae.config import check, check_positive, group, option
from jaxsae.dictionary import MethodConfig, check_switches, make_method
from jaxsae.lm.torch_lm import TorchConfig
from jaxsae.training.config import OptimizerConfig

PEERS = ("sparsify", "saelens", "dictionary_learning")
DEAD = (0.0, 0.1)  # shares of the latents: the states that a step is timed in, where no flag says one
STEPS = 15  # timed, where --repeats does not say


@dataclasses.dataclass(frozen=True)
class StepMethodConfig(MethodConfig):
    """The method, with a width that a benchmark of another thing need not give."""

    width: int = option(16_384, "step: number of latents")


@dataclasses.dataclass(frozen=True)
class BenchmarkConfig:
    """What is timed, its shapes, and what it is timed against."""

    what: Literal["step", "harvest", "loader"] = option(
        "step",
        "step: a training step against the matmul of its encoder; harvest: of a Hugging Face model, against its "
        "bare forward pass; loader: shuffled batches against raw reads",
    )
    d_model: int = option(768, "step: width of the activations")
    batch_size: int | None = option(None, "rows of a step, default 2048; sequences of a forward pass, default 16")
    repeats: int | None = option(None, "times that each is timed, default 15 steps, 3 harvests; medians are given")
    model: str = option("", "harvest: hub id or directory")
    sites: tuple[str, ...] = option((), "harvest: activations to keep; default: resid_post of the middle block")
    text: tuple[str, ...] = option((), "harvest: text to read, as for `harvest`; default: random token ids")
    context: int = option(256, "harvest: tokens of a sequence")
    tokens: int = option(524_288, "harvest: tokens of a pass")
    compute_dtype: Literal["float32", "bfloat16"] = option("float32", "of matmul inputs")
    dead_fraction: float | None = option(
        None,
        "step: share of the latents that are dead, in all packages that are timed; default: first none, then 0.1, or none "
        "alone where the loss has no term of dead latents",
    )
    mesh: tuple[int, ...] = option((), "devices as DATA,MODEL; default: all on MODEL")
    compare: tuple[str, ...] = option((), f"time the same work in other packages, in turn: {', '.join(PEERS)}")
    seed: int = option(0, "of weights and inputs")
    json: str = option("", "file for the figures")
    loader_bytes: int = option(2**31, "loader: size of the store that is made for it, in bfloat16")
    loader_dir: str = option("", "loader: where that store is made; default: where temporary files are")
    loader_repeats: int = option(3, "loader: epochs; medians are given")
    method: StepMethodConfig = group(StepMethodConfig)
    optimization: OptimizerConfig = group(OptimizerConfig)
    torch: TorchConfig = group(TorchConfig)

    def __post_init__(self):
        positive = ("d_model", "batch_size", "repeats", "context", "tokens", "loader_bytes", "loader_repeats")
        check_positive(self, *positive)
        if self.what == "harvest":
            check(bool(self.model), "model", "", "--what=harvest needs a hub id or a directory")
            return
        dead = self.dead_fraction
        check(0 <= (dead or 0) < 1, "dead_fraction", dead, "must be 0 or above, and below 1")
        if self.what == "step":
            check_switches(self.method)
            fix = (
                f"the loss of --architecture={self.method.architecture} has no term of dead latents: leave the flag out"
            )
            check(not dead or make_method(self.method).has_aux, "dead_fraction", dead, fix)
        unknown = [p for p in self.compare if p not in PEERS]
        check(not unknown, "compare", ",".join(self.compare), f"choose from {', '.join(PEERS)}")

    @property
    def rows_of_a_batch(self) -> int:
        """Rows of a step, or sequences of a forward pass."""
        return self.batch_size or (16 if self.what == "harvest" else 2048)

    @property
    def timed_steps(self) -> int:
        """How often a step is timed in each state."""
        return self.repeats or STEPS

    @property
    def dead_fractions(self) -> tuple[float, ...]:
        """Shares of the latents that are dead, one for each state that a step is timed in."""
        if self.dead_fraction is not None:
            return (self.dead_fraction,)
        return DEAD if make_method(self.method).has_aux else DEAD[:1]
