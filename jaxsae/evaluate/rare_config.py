"""Flags of the suite `rare`."""

import dataclasses

from jaxsae.config import check, check_positive, option

FEWEST = 5  # rows that a planted feature must stand on, for it to be planted


@dataclasses.dataclass(frozen=True)
class RareConfig:
    """What is planted in which rows, what is trained on them, and what counts as found."""

    rare_widths: tuple[int, ...] = option((256, 1024), "rare: widths of the dictionaries that are trained, rising")
    rare_seeds: int = option(1, "rare: how many times all is done, each with features and initial weights of its own")
    rare_rows: int = option(200_000, "rare: rows of the store, at most, that features are planted in and trained on")
    rare_steps: int = option(1500, "rare: steps of each training, with the run's own batch, and else as the run says")
    rare_judged: int = option(65_536, "rare: other rows of the store, at most, on which latents are judged")
    rare_high: float = option(1e-2, "rare: the largest share of the rows that a planted feature stands on")
    rare_low: float = option(1e-6, "rare: the smallest such share; below 5 rows a feature is not planted")
    rare_per_decade: int = option(3, "rare: frequencies for each factor of 10")
    rare_features: int = option(8, "rare: planted features of each frequency")
    rare_amplitude: float = option(
        0.5, "rare: length of what is planted, on average, over that of the store's rows about their mean"
    )
    rare_cosine: float = option(0.9, "rare: cosine of a decoder row with a planted feature that counts as found")
    rare_f1: float = option(0.5, "rare: F1, at the feature's own frequency, that its latent must reach as well")
    rare_keep: bool = option(False, "rare: keep planted rows and trained dictionaries in RUN/eval/rare")

    def __post_init__(self):
        check_positive(self, "rare_seeds", "rare_rows", "rare_steps", "rare_judged", "rare_per_decade")
        check_positive(self, "rare_features", "rare_amplitude")
        widths, given = self.rare_widths, ",".join(map(str, self.rare_widths))
        check(bool(widths) and all(width > 0 for width in widths), "rare_widths", given, "give widths above 0")
        check(list(widths) == sorted(set(widths)), "rare_widths", given, "give each once, rising")
        for name in ("rare_high", "rare_low"):
            value = getattr(self, name)
            check(0 < value < 1, name, value, "must be between 0 and 1, a share of the rows")
        check(
            self.rare_low < self.rare_high, "rare_low", self.rare_low, f"must be below --rare_high={self.rare_high:g}"
        )
        check(0 < self.rare_cosine < 1, "rare_cosine", self.rare_cosine, "must be between 0 and 1")
        check(0 <= self.rare_f1 < 1, "rare_f1", self.rare_f1, "must be at least 0 and below 1")
        most = 0.5  # beyond, planted features are no longer beside what is there
        check(self.rare_high <= most, "rare_high", self.rare_high, f"must be at most {most}")
