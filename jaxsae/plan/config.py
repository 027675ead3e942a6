"""Flags of `jaxsae plan`."""

import dataclasses
from typing import Literal

from jaxsae.config import check, check_positive, group, option
from jaxsae.dictionary import MethodConfig
from jaxsae.training.config import OptimizerConfig, TrainConfig

LARGEST = 2**31 - 1  # XLA counts rows and latents of a device in 32 bits


@dataclasses.dataclass(frozen=True)
class PlanConfig:
    """The devices and the step; flags of `train` that change neither memory nor time are left out."""

    topology: str = option(help="devices, as FAMILY:SIZE: v5p:4x4x4, v5e:16x16, h200:8; an unknown one lists them all")
    d_model: int = option(help="width of the activations")
    batch_size: int = option(4096, "rows of a step")
    mesh: tuple[int, ...] = option((), "devices as DATA,MODEL; default: all on MODEL")
    compute_dtype: Literal["float32", "bfloat16"] = option("float32", "of matmul inputs; parameters stay float32")
    ema_decay: float = option(0.0, "decay of an average of the weights that is kept beside them; 0: none")
    prefetch: int = option(4, "batches read ahead")
    json: str = option("", "file for the figures")
    method: MethodConfig = group(MethodConfig)
    optimization: OptimizerConfig = group(OptimizerConfig)

    def __post_init__(self):
        check_positive(self, "d_model", "batch_size")
        for name, value in (("width", self.method.width), ("d_model", self.d_model), ("batch_size", self.batch_size)):
            check(value <= LARGEST, name, value, f"must be at most {LARGEST}")
        self.training()  # the flags that train checks too

    def training(self) -> TrainConfig:
        """The configuration of a run with this step."""
        same = ("batch_size", "mesh", "compute_dtype", "ema_decay", "prefetch", "method", "optimization")
        values = {name: getattr(self, name) for name in same}
        return TrainConfig(store="", workdir="plan", tokens=1000 * self.batch_size, **values)
