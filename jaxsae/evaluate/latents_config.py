"""The flags of the suite `latents`."""

import dataclasses

from jaxsae.config import check_positive, option


@dataclasses.dataclass(frozen=True)
class LatentsConfig:
    """How much of a dictionary's latents is looked at."""

    latents_sequences: int = option(
        128,
        "latents: games or sequences on which some latents alone are spliced in, at most; all others are counted on",
    )
    latents_lens: int = option(
        4096, "latents: how many latents' directions the logit lens sees, those that fire most often"
    )
    latents_examples: int = option(12, "latents: latents in the table of the logit lens")

    def __post_init__(self):
        check_positive(self, "latents_sequences", "latents_lens", "latents_examples")
