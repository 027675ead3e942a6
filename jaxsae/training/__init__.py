"""The trainer: state, optimiser, step, loop and checkpoints of a run."""

from jaxsae.training.config import OptimizerConfig, TrainConfig
from jaxsae.training.loop import train
from jaxsae.training.run import load, save_dictionary

__all__ = ["OptimizerConfig", "TrainConfig", "load", "save_dictionary", "train"]
