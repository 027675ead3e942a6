"""Flags of `jaxsae benchmark --what=known_dictionary` beside those that it shares with the other benchmarks."""

import dataclasses

from jaxsae.config import check, check_positive, option

PEER = "saelens"  # the package that trains on the same rows
# SAELens' default, and what its modules took best at equal steps on other rows (BUILD_NOTES, "Beside the peers").
PEER_RATES = (3e-4, 2e-3, 6e-3)
EQUAL_L0 = 0.05  # L0s that differ by no more than this share are equal
FEWEST_FEATURES = 16  # below, there is nobody to be a parent
# A group is on in so many of the rows, and its features fire so many times as often there as on average.
ON, BOOST = 0.1, 5.0


@dataclasses.dataclass(frozen=True)
class KnownConfig:
    """The true features, how often they fire, and what is trained on them."""

    features: int = option(4096, "known_dictionary: number of true features, unit directions")
    active: float = option(8.0, "known_dictionary: true features that are active on a row, on average")
    zipf: float = option(0.7, "known_dictionary: the i-th feature's frequency is as i to minus this, at most 0.2")
    group_size: int = option(
        16, "known_dictionary: features of a group, which fire together 2.8 times as often as independent ones; 1: none"
    )
    children: float = option(
        0.25, "known_dictionary: share of the features that fire only where another one, their parent, does"
    )
    held_out: int = option(16_384, "known_dictionary: rows that are judged, made anew, none of them trained on")
    methods: tuple[str, ...] = option((), "known_dictionary: architectures that are trained; default: all there are")
    seeds: tuple[int, ...] = option(
        (0, 1, 2), "known_dictionary: each makes its own features, rows, order and initial weights"
    )
    peer_rates: tuple[float, ...] = option(
        PEER_RATES,
        "known_dictionary: learning rates that --compare=saelens is trained at with the first seed; that of the lowest FVU "
        "at an L0 within 5% of --k, or of the nearest L0, goes on to the others",
    )
    dead_tokens: int | None = option(
        None, "known_dictionary: rows without firing after which a latent counts as dead; default: as of `train`"
    )

    def __post_init__(self):
        check_positive(self, "features", "active", "group_size", "held_out", "dead_tokens")
        least = f"must be at least {FEWEST_FEATURES}"
        check(self.features >= FEWEST_FEATURES, "features", self.features, least)
        most = self.features / BOOST
        check(self.active < most, "active", self.active, f"must be below a fifth of --features={self.features}")
        check(0 <= self.zipf <= 4, "zipf", self.zipf, "must be from 0 to 4")
        check(0 <= self.children <= 0.5, "children", self.children, "must be from 0 to 0.5")
        given = ",".join(map(str, self.seeds))
        sound = bool(self.seeds) and all(0 <= seed < 2**32 for seed in self.seeds)
        check(sound, "seeds", given, "give one or more numbers from 0 to 2^32 - 1")
        check(len(set(self.seeds)) == len(self.seeds), "seeds", given, "name each seed once")
        rates = ",".join(map(str, self.peer_rates))
        check(
            bool(rates) and all(0 < r < 1 for r in self.peer_rates), "peer_rates", rates, "give rates between 0 and 1"
        )
