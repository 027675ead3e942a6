"""95% intervals of shares and of means."""

import numpy as np

Z_95 = 1.959964


def of_share(hits: float, count: int) -> list[float] | None:
    """Wilson's interval of `hits` of `count` independent ones; None of none."""
    if not count:
        return None
    share, z2 = hits / count, Z_95**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z_95 / (1 + z2 / count) * np.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    return [float(max(0.0, middle - half)), float(min(1.0, middle + half))]


def of_mean(values: np.ndarray) -> list[float] | None:
    """Normal interval of the mean of independent values; None of fewer than two."""
    values = np.asarray(values, np.float64)
    if len(values) < 2:
        return None
    half = Z_95 * values.std(ddof=1) / np.sqrt(len(values))
    return [float(values.mean() - half), float(values.mean() + half)]
