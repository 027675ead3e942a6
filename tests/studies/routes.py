"""From which width on lists of pairs cost less than matrix products over all latents: times a step by either route.

    python tests/studies/routes.py [D ...]

Prints, for each d, k and width, the milliseconds of a step by pairs and by products, and the rule's choice
(`training/routes/choose.py`). Rankings of TopK; nothing else should run.
"""

import sys
from unittest import mock

from jaxsae.benchmark.clock import time_in_turn
from jaxsae.benchmark.config import BenchmarkConfig
from jaxsae.benchmark.step import TimedStep
from jaxsae.dictionary import MethodConfig
from jaxsae.parallel import make_mesh
from jaxsae.training.routes import choose

WIDTHS, KS = (1024, 2048, 4096, 8192), (16, 32, 64)


def timed(d: int, width: int, k: int, by_products: bool) -> TimedStep:
    """A compiled step by one of the routes."""
    config = BenchmarkConfig(d_model=d, batch_size=2048, method=MethodConfig(width=width, k=k))
    with mock.patch.object(choose, "widest_by_products", lambda *_: width if by_products else 0):
        return TimedStep(config, make_mesh((1, 1)))


def main() -> None:
    print(f"{'d':>5}{'k':>5}{'width':>8}{'pairs ms':>10}{'products ms':>12}  rule")
    for d in [int(a) for a in sys.argv[1:]] or [64, 128, 384]:
        for k in KS:
            for width in WIDTHS:
                steps = {name: timed(d, width, k, name == "products") for name in ("pairs", "products")}
                times = time_in_turn({name: step.calls()["step"] for name, step in steps.items()}, 9)
                pairs, products = (times[name].seconds * 1e3 for name in ("pairs", "products"))
                rule = "products" if width <= choose.widest_by_products(k, d) else "pairs"
                print(f"{d:>5}{k:>5}{width:>8}{pairs:>10.1f}{products:>12.1f}  {rule}", flush=True)


if __name__ == "__main__":
    main()
