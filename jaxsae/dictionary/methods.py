"""The methods there are, by the name that `--architecture` takes."""

from jaxsae.dictionary.base import Method
from jaxsae.dictionary.batchtopk import BatchTopK
from jaxsae.dictionary.config import MethodConfig
from jaxsae.dictionary.relu import ReluL1
from jaxsae.dictionary.topk import TopK

METHODS: dict[str, type] = {cls.name: cls for cls in (TopK, BatchTopK, ReluL1)}


def make_method(config: MethodConfig) -> Method:
    """The method that `config.architecture` names."""
    return METHODS[config.architecture](config)
