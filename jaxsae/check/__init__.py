"""Does it run right, and how fast, on this machine's devices?"""

from jaxsae.check.config import CheckConfig
from jaxsae.check.run import check

__all__ = ["CheckConfig", "check"]
