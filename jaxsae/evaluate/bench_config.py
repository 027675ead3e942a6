"""Flags of the suite `bench`."""

import dataclasses

from jaxsae.config import check, check_positive, option
from jaxsae.errors import InputError

NOT_BENCHED = ("bench", "compare", "rare")  # which hold dictionaries side by side themselves, or train others


@dataclasses.dataclass(frozen=True)
class BenchConfig:
    """Which suites' figures stand in the table, and on how many sequences dictionaries are held side by side."""

    bench_suites: tuple[str, ...] = option(
        (),
        "bench: suites that are measured of each dictionary where its eval/ does not hold them; default: reconstruction, "
        "splice and, of the Othello GPT, othello. Others' figures are taken where they are there",
    )
    bench_sequences: int = option(
        300, "bench: held-out sequences or games, at most, that all dictionaries are run on, one beside the other"
    )

    def __post_init__(self):
        check_positive(self, "bench_sequences")
        check(self.bench_sequences > 1, "bench_sequences", self.bench_sequences, "must be at least 2, for an interval")
        for name in self.bench_suites:
            if name in NOT_BENCHED:
                raise InputError(
                    f"--bench_suites={','.join(self.bench_suites)}: {name} has no figures of one dictionary"
                )
