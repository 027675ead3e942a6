"""Flags of `jaxsae benchmark`."""

import dataclasses
from typing import Literal

from jaxsae.benchmark.known.config import KnownConfig
from jaxsae.config import check, check_positive, group, option
from jaxsae.dictionary import MethodConfig, check_switches, make_method
from jaxsae.lm.options import HFConfig
from jaxsae.training.config import OptimizerConfig

PEERS = ("sparsify", "saelens", "dictionary_learning")
DEAD = (0.0, 0.1)  # shares of the latents: the states that a step is timed in, where no flag says one
STEPS = 15  # timed, where --repeats does not say
KNOWN = "known_dictionary"
_K = next(field for field in dataclasses.fields(MethodConfig) if field.name == "k")
WIDTH, D_MODEL, BATCH = 16_384, {KNOWN: 256}, {"harvest": 16, KNOWN: 1024}


@dataclasses.dataclass(frozen=True)
class StepMethodConfig(MethodConfig):
    """The method, with sizes whose defaults go by what is benchmarked; they are checked once that is known."""

    width: int | None = option(None, "number of latents; default: step 16,384, known_dictionary --features")
    k: int | None = option(None, f"{_K.metadata['help']}; default: step {_K.default}, known_dictionary --active")

    def __post_init__(self):
        if self.width is not None and self.k is not None:
            super().__post_init__()

    def of_step(self) -> MethodConfig:
        """With the sizes that a step has by default."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        defaults = {"width": WIDTH, "k": _K.default}
        return MethodConfig(**values | {n: d for n, d in defaults.items() if values[n] is None})


@dataclasses.dataclass(frozen=True)
class BenchmarkConfig:
    """What is timed, its shapes, and what it is timed against."""

    what: Literal["step", "harvest", "loader", "known_dictionary"] = option(
        "step",
        "step: a training step against the matmul of its encoder; harvest: of a Hugging Face model, against its "
        "bare forward pass; loader: shuffled batches against raw reads; known_dictionary: how well each method "
        "recovers a dictionary that is known",
    )
    d_model: int | None = option(None, "width of the activations; default: 768, known_dictionary 256")
    batch_size: int | None = option(
        None, "rows of a step, default 2048, known_dictionary 1024; sequences of a forward pass, default 16"
    )
    repeats: int | None = option(None, "times that each is timed, default 15 steps, 3 harvests; medians are given")
    model: str = option("", "harvest: hub id or directory")
    sites: tuple[str, ...] = option((), "harvest: activations to keep; default: resid_post of the middle block")
    text: tuple[str, ...] = option((), "harvest: text to read, as for `harvest`; default: random token ids")
    context: int = option(256, "harvest: tokens of a sequence")
    tokens: int = option(524_288, "harvest: tokens of a pass; known_dictionary: rows that are trained on, once each")
    compute_dtype: Literal["float32", "bfloat16"] = option("float32", "of matmul inputs")
    dead_fraction: float | None = option(
        None,
        "step: share of the latents that are dead, in all packages that are timed; default: first none, then 0.1, or none "
        "alone where the loss has no term of dead latents",
    )
    mesh: tuple[int, ...] = option((), "devices as DATA,MODEL; default: all on MODEL; harvest --backend=jax: on DATA")
    compare: tuple[str, ...] = option(
        (), f"time the same work in other packages, in turn: {', '.join(PEERS)}; known_dictionary: saelens"
    )
    seed: int = option(0, "of weights and inputs; known_dictionary takes --seeds")
    json: str = option("", "file for the figures")
    loader_bytes: int = option(2**31, "loader: size of the store that is made for it, in bfloat16")
    loader_dir: str = option(
        "", "loader, known_dictionary: where the store is made; default: where temporary files are"
    )
    loader_repeats: int = option(3, "loader: epochs; medians are given")
    known: KnownConfig = group(KnownConfig)
    method: StepMethodConfig = group(StepMethodConfig)
    optimization: OptimizerConfig = group(OptimizerConfig)
    hf: HFConfig = group(HFConfig)

    def __post_init__(self):
        if self.d_model is None:
            object.__setattr__(self, "d_model", D_MODEL.get(self.what, 768))
        if self.what != KNOWN and isinstance(self.method, StepMethodConfig):
            object.__setattr__(self, "method", self.method.of_step())
        positive = ("d_model", "batch_size", "repeats", "context", "tokens", "loader_bytes", "loader_repeats")
        check_positive(self, *positive)
        if self.what == "harvest":
            check(bool(self.model), "model", "", "--what=harvest needs a hub id or a directory")
            return
        if self.what == KNOWN:
            check(self.seed == 0, "seed", self.seed, "--what=known_dictionary takes --seeds")
            for name in ("dead_fraction", "repeats"):
                value = getattr(self, name)
                check(value is None, name, value, "says nothing to --what=known_dictionary: leave it out")
        fix = "of cross-layer transcoders `train` itself says how many tokens a second it takes: leave the flag out"
        check(self.method.layers == 1, "layers", self.method.layers, fix)
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
        return self.batch_size or BATCH.get(self.what, 2048)

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
