"""Times a training step, in parts, against the matmul of its own encoder and against other trainers."""

from jaxsae.benchmark.config import BenchmarkConfig
from jaxsae.benchmark.run import benchmark

__all__ = ["BenchmarkConfig", "benchmark"]
