"""Random latents, as a dense matrix."""

import numpy as np


def sparse(seed: int = 0, rows: int = 200, width: int = 12, density: float = 0.2, signed: bool = False) -> np.ndarray:
    """float32 [rows, width]: random latents, some of equal value, the last of which never fires."""
    rng = np.random.default_rng(seed)
    values = np.round(rng.exponential(1, (rows, width)), 1) + 0.1
    values *= rng.random((rows, width)) < density * rng.uniform(0.1, 2, width)
    values[:, -1] = 0
    return (values * (rng.choice([-1, 1], values.shape) if signed else 1)).astype(np.float32)
