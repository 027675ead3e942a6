"""The trainer: state, optimiser, step, loop and checkpoints of a run."""

from jaxsae.training.by_range import load_by_range
from jaxsae.training.config import OptimizerConfig, TrainConfig
from jaxsae.training.end_to_end.finetune import finetune_flags
from jaxsae.training.initial import initial_flags
from jaxsae.training.loop import train
from jaxsae.training.run import load, save_dictionary
from jaxsae.training.source_run import source_flags
from jaxsae.training.taken import writes_flags

__all__ = [
    "OptimizerConfig",
    "TrainConfig",
    "finetune_flags",
    "initial_flags",
    "load",
    "load_by_range",
    "save_dictionary",
    "source_flags",
    "train",
    "writes_flags",
]
