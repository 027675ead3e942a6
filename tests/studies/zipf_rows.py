"""Synthetic rows with Zipf frequencies, sums of unit features, for `jaxsae harvest --source=arrays`.

    python tests/studies/zipf_rows.py rows.npy [--d_model=128] [--most=0.1] [--features=features.npy]

2,000,000 rows; 16,384 random unit features, the i-th of frequency MOST i^-0.7, at least 2e-4; a Poisson number of them a row,
magnitudes 1.5 +- 0.4. Not a test: "Beside the peers" in BUILD_NOTES.md has what was trained on it.
"""

import argparse

import numpy as np

FEATURES, ROWS, PART = 16_384, 2_000_000, 50_000


def main(rows: str, d: int, most_often: float, features: str | None) -> None:
    """Writes float32 [ROWS, d], and the features [FEATURES, d]."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(FEATURES, d)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    frequency = np.maximum(most_often * np.arange(1, FEATURES + 1) ** -0.7, 2e-4)
    active = frequency.sum()
    most, cumulated = int(2 * active), np.cumsum(frequency / active)
    print(f"{active:.1f} features a row on average")
    out = np.lib.format.open_memmap(rows, "w+", np.float32, (ROWS, d))
    for first in range(0, ROWS, PART):
        count = rng.poisson(active, PART).clip(1, most)
        which = np.searchsorted(cumulated, rng.random((PART, most))).clip(0, FEATURES - 1)
        magnitude = (1.5 + 0.4 * rng.normal(size=which.shape)).astype(np.float32)
        magnitude *= np.arange(most) < count[:, None]
        out[first : first + PART] = np.einsum("bk,bkd->bd", magnitude, directions[which], optimize=True)
    out.flush()
    if features:
        np.save(features, directions)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows")
    parser.add_argument("--d_model", type=int, default=128)
    parser.add_argument("--most", type=float, default=0.1, help="frequency of the most frequent feature")
    parser.add_argument("--features", help="where the directions go too")
    given = parser.parse_args()
    main(given.rows, given.d_model, given.most, given.features)
