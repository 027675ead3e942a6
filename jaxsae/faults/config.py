"""Flags of `jaxsae faults`."""

import dataclasses

from jaxsae.config import check, check_positive, option


@dataclasses.dataclass(frozen=True)
class FaultsConfig:
    """How many faults, where, and how long a run may take before it counts as hung."""

    workdir: str = option(help="directory for the runs, on the file system that is to be tried; what it holds is kept")
    seeds: int = option(10, "trials; each seed chooses a fault, its moment, and how many processes resume")
    first_seed: int = option(0, "the first of them")
    hang_seconds: float = option(90.0, "seconds after which a run that has not ended counts as hung")
    json: str = option("", "file for the outcomes")

    def __post_init__(self):
        check(bool(self.workdir), "workdir", "", "name a directory")
        check_positive(self, "seeds", "hang_seconds")
        check(self.first_seed >= 0, "first_seed", self.first_seed, "must be 0 or more")
