"""Flags of `jaxsae benchmark`."""

import dataclasses
from typing import Literal

from jaxsae.config import check, check_positive, group, option
from jaxsae.dictionary import MethodConfig
from jaxsae.errors import InputError
from jaxsae.training.config import OptimizerConfig

PEERS = ("sparsify", "saelens", "dictionary_learning")


@dataclasses.dataclass(frozen=True)
class BenchmarkConfig:
    """The shapes of a step, and what it is timed against."""

    d_model: int = option(help="width of the activations")
    batch_size: int = option(2048, "rows of a step")
    repeats: int = option(15, "timed steps; medians are given")
    compute_dtype: Literal["float32", "bfloat16"] = option("float32", "of matmul inputs")
    mesh: tuple[int, ...] = option((), "devices as DATA,MODEL; default: all on MODEL")
    compare: tuple[str, ...] = option((), f"time the same work in other packages, in turn: {', '.join(PEERS)}")
    seed: int = option(0, "of weights and inputs")
    json: str = option("", "file for the figures")
    method: MethodConfig = group(MethodConfig)
    optimization: OptimizerConfig = group(OptimizerConfig)

    def __post_init__(self):
        check_positive(self, "d_model", "batch_size", "repeats")
        unknown = [p for p in self.compare if p not in PEERS]
        check(not unknown, "compare", ",".join(self.compare), f"choose from {', '.join(PEERS)}")
        if self.method.architecture != "topk":
            raise InputError(f"--architecture={self.method.architecture}: only topk has a fused step to time")
