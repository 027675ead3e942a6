"""How often the joint law's bootstrap intervals hold, and how far it reaches, on losses drawn from the published law.

    python tests/studies/scaling_laws.py [DRAWS]

Prints for several grids of widths and k, each loss off by 1%: of DRAWS intervals of each constant how many hold, their median
length, and the errors of predictions at 8 times the largest width. Not a test: its figures stand in BUILD_NOTES.md.
"""

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from published_law import CONSTANTS, losses

from jaxsae.sweep.bootstrap import bootstrap
from jaxsae.sweep.fit import fit
from jaxsae.sweep.laws import JOINT

two = lambda first, last, step=1: [2.0**i for i in range(first, last + 1, step)]
GRIDS = {
    "2^11..2^18, k 8..512": (two(11, 18), two(3, 9)),
    "2^11..2^20, k 8..512": (two(11, 20), two(3, 9)),
    "2^11..2^16, k 8..512": (two(11, 16), two(3, 9)),
    "2^9, 2^11..2^17, k 8,32,128,512": (two(9, 17, 2), two(3, 9, 2)),
    "2^9,2^11,2^13, k 8,16,32,64": (two(9, 13, 2), two(3, 6)),
}


def main(draws: int) -> None:
    """Prints a block for each grid."""
    print("constants:", *CONSTANTS)
    for name, (widths, ks) in GRIDS.items():
        started = time.process_time()
        held, lengths, errors, identified = np.zeros(len(CONSTANTS), int), [], [], 0
        far, at = 8 * max(widths), np.array(ks)
        for draw in range(draws):
            n, k, y = losses(widths, ks, seed=[1, draw])
            found = fit(JOINT, {"n": n, "k": k}, y)
            constants = bootstrap(found, seed=draw).constants()
            identified += found.identified
            if not found.identified:
                continue
            ends = [constants[c]["interval"] for c in CONSTANTS]
            held += [low <= true <= high for (low, high), true in zip(ends, CONSTANTS.values(), strict=True)]
            lengths.append([high - low for low, high in ends])
            errors.append(found.predict(n=far, k=at) / JOINT(CONSTANTS, n=far, k=at) - 1)
        errors = np.abs(errors)
        print(
            f"{name}: {len(y)} members, {identified} of {draws} identified, {time.process_time() - started:.0f} CPU s"
        )
        print(f"  held of {identified}:", held.tolist(), "length", np.median(lengths, 0).round(3).tolist())
        print(
            f"  8 times further: rms {np.sqrt(np.mean(errors**2)):.2%}, 95% {np.quantile(errors, 0.95):.2%}, largest "
            f"{errors.max():.2%}; below 3%: {(errors < 0.03).mean():.1%}, at every k in {(errors.max(1) < 0.03).sum()} draws"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
