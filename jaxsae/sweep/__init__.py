"""Scaling laws from one flag file."""

from jaxsae.sweep.config import SweepConfig
from jaxsae.sweep.run import sweep

__all__ = ["SweepConfig", "sweep"]
