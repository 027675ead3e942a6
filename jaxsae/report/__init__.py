"""The page of a run: what it is, how good it is beside its baselines, and what its latents respond to."""

from jaxsae.report.config import ReportConfig
from jaxsae.report.report import report

__all__ = ["ReportConfig", "report"]
