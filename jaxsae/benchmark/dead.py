"""Which latents are dead while a step is timed, ours and other packages'."""

import numpy as np

DEAD_LENGTH = 0.05  # of a dead latent's encoder row: it never fires, and pre-activates above 0 as often as not


def dead_latents(width: int, share: float) -> np.ndarray:
    """bool [width]: `share` of the latents, evenly spread."""
    number = np.arange(width)
    return np.floor((number + 1) * share) > np.floor(number * share)
