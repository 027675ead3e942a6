"""`jaxsae faults`: kills, cuts and fills disks on purpose, and sees whether runs come out as if nothing had been."""

from jaxsae.faults.campaign import faults
from jaxsae.faults.config import FaultsConfig

__all__ = ["FaultsConfig", "faults"]
