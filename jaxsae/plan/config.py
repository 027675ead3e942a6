"""Flags of `jaxsae plan`."""

import dataclasses
from typing import Literal

from jaxsae.config import check, check_positive, group, option
from jaxsae.dictionary import MethodConfig
from jaxsae.errors import InputError
from jaxsae.training.config import OptimizerConfig, TrainConfig

LARGEST = 2**31 - 1  # XLA counts rows and latents of a device in 32 bits


@dataclasses.dataclass(frozen=True)
class PlanConfig:
    """The devices and the step; flags of `train` that change neither memory nor time are left out."""

    topology: str = option(help="devices, as FAMILY:SIZE: v5p:4x4x4, v5e:16x16, h200:8; an unknown one lists them all")
    d_model: int | None = option(None, "width of the activations; default: the model's")
    batch_size: int = option(4096, "rows of a step")
    mesh: tuple[int, ...] = option((), "devices as DATA,MODEL; default: all on MODEL")
    compute_dtype: Literal["float32", "bfloat16"] = option("float32", "of matmul inputs; parameters stay float32")
    ema_decay: float = option(0.0, "decay of an average of the weights that is kept beside them; 0: none")
    prefetch: int = option(4, "batches read ahead")
    json: str = option("", "file for the figures")
    model: str = option(
        "",
        "directory of a language model, in which config.json is enough: what its harvest takes is stated beside the step",
    )
    sites: tuple[str, ...] = option(
        (), "activations that the model's harvest reads; default: resid_post of the middle layer"
    )
    context: int | None = option(None, "tokens of a sequence; default: the model's limit, at most 1024")
    sequences: int = option(16, "sequences in a forward pass of the model")
    model_dtype: Literal["bfloat16", "float32", "float16"] = option("bfloat16", "dtype that the model computes in")
    method: MethodConfig = group(MethodConfig)
    optimization: OptimizerConfig = group(OptimizerConfig)

    def __post_init__(self):
        check_positive(self, "d_model", "batch_size", "context", "sequences")
        if self.d_model is None and not self.model:
            raise InputError("--d_model is required: width of the activations; or --model, which has one")
        for name, value in (("width", self.method.width), ("d_model", self.d_model), ("batch_size", self.batch_size)):
            check(value is None or value <= LARGEST, name, value, f"must be at most {LARGEST}")
        self.training()  # the flags that train checks too

    def training(self) -> TrainConfig:
        """The configuration of a run with this step."""
        same = ("batch_size", "mesh", "compute_dtype", "ema_decay", "prefetch", "method", "optimization")
        values = {name: getattr(self, name) for name in same}
        return TrainConfig(store="", workdir="plan", tokens=1000 * self.batch_size, **values)
