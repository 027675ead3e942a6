"""The flags of `jaxsae evaluate --suite=absorption`."""

import dataclasses

from jaxsae.config import check, check_positive, option

KINDS = ("mine", "theirs", "empty")


@dataclasses.dataclass(frozen=True)
class AbsorptionConfig:
    """Which parents are looked at, and SAEBench's constants."""

    absorption_words: int = option(10_000, "absorption: words of the tokenizer, at most, drawn by --seed")
    absorption_examples: int = option(10, "absorption: solved examples that a word's prompt begins with")
    absorption_parents: tuple[str, ...] = option(
        KINDS,
        f"absorption, Othello: states of a square that are parents: {', '.join(KINDS)}, as the player to move sees it",
    )
    absorption_squares: int = option(16, "absorption, Othello: squares, of the 64, drawn by --seed")
    absorption_rows: int = option(9000, "absorption, Othello: positions, about 8 of a game, that fit and measure")
    absorption_probe_f1: float = option(
        0.6, "absorption: F1 of the probe on the activations from which on a parent counts (SAEBench 0.6)"
    )
    absorption_main_gain: float = option(
        0.5,
        "absorption: share of what that probe's F1 gains over always saying yes that the sparse probe's must gain for a "
        "parent to count: main latents that say little are none (SAEBench 0)",
    )
    absorption_k: int = option(10, "absorption: latents of a k-sparse probe, at most (SAEBench 10)")
    absorption_f1_jump: float = option(
        0.03,
        "absorption: what one more latent must add to F1 to be a main one too, as of a split feature (SAEBench 0.03)",
    )
    absorption_cosine: float = option(
        0.025, "absorption: cosine with the probe that an absorbing latent has at least (SAEBench 0.025)"
    )
    absorption_share: float = option(
        0.4,
        "absorption: share of the activation's projection on the probe that it, or they, carry at least (SAEBench 0.4)",
    )
    absorption_part_cosine: float = option(
        0.1, "absorption, fraction: cosine with the probe of each absorbing latent, at least (SAEBench 0.1)"
    )
    absorption_part_latents: int = option(3, "absorption, fraction: absorbing latents of a row, at most (SAEBench 3)")

    def __post_init__(self):
        check_positive(self, "absorption_words", "absorption_squares", "absorption_rows", "absorption_k")
        check_positive(self, "absorption_part_latents")
        check(self.absorption_examples >= 0, "absorption_examples", self.absorption_examples, "must be 0 or more")
        check(self.absorption_squares <= 64, "absorption_squares", self.absorption_squares, "a board has 64")
        for name in ("probe_f1", "main_gain", "f1_jump", "cosine", "share", "part_cosine"):
            value = getattr(self, f"absorption_{name}")
            check(0 <= value <= 1, f"absorption_{name}", value, "must be from 0 to 1")
        listed = ",".join(self.absorption_parents)
        good = bool(self.absorption_parents) and set(self.absorption_parents) <= set(KINDS)
        check(good, "absorption_parents", listed, f"give one or more of {', '.join(KINDS)}")
