"""What a training step takes on devices that are not there: memory, traffic, a bound on its time."""

from jaxsae.plan.config import PlanConfig
from jaxsae.plan.run import plan

__all__ = ["PlanConfig", "plan"]
