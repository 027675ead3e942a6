"""What the latents of a dictionary fire on: collected once (`Record`), then drawn as pages and written for other tools."""

from jaxsae.dashboard.collect import collect_run, collect_set
from jaxsae.dashboard.record import Record
from jaxsae.dashboard.settings import Settings

__all__ = ["Record", "Settings", "collect_run", "collect_set"]
