"""What the latents of a dictionary fire on: collected once (`Record`), then drawn as pages and written for other tools."""

from jaxsae.dashboard.collect import collect_run
from jaxsae.dashboard.record import Record

__all__ = ["Record", "collect_run"]
