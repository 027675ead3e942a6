"""What a dictionary is worth: how well it reconstructs, what the model loses by it, what its latents mean."""

from jaxsae.evaluate.config import SUITES, EvaluateConfig
from jaxsae.evaluate.every import evaluate

__all__ = ["SUITES", "EvaluateConfig", "evaluate"]
