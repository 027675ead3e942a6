"""How a Hugging Face model is loaded, by whichever backend."""

import dataclasses
from typing import Literal

from jaxsae.config import option


@dataclasses.dataclass(frozen=True)
class HFConfig:
    """How a Hugging Face model is loaded."""

    backend: Literal["auto", "jax", "torch"] = option(
        "auto",
        "hf: what runs the model: jax (causal models of families that jaxsae has itself, split over --mesh), torch (all "
        "others, on one device); auto: jax on TPUs and GPUs where it has the model and the sites, else torch",
    )
    model_dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "auto", "hf: dtype that the model computes in; auto: its checkpoint's, by jax on TPUs and GPUs bfloat16"
    )
    device: str = option("auto", "hf, --backend=torch: cpu, cuda, cuda:1, ...; auto: a GPU where there is one")
    revision: str = option("", "hf: branch, tag or commit of a model on the hub")
    trust_remote_code: bool = option(False, "hf: run Python code that comes with a model; only for code you have read")
