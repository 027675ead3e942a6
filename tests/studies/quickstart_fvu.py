"""FVU on the quickstart's store: a step by lists of pairs against one by products, and what each optimiser costs.

    python tests/studies/quickstart_fvu.py STORE OUTPUT_DIR [STEPS]

STORE is the store that `./launch/quickstart` leaves (runs/quickstart/store). Prints one JSON line a run.
Not a test: it takes minutes, and its figures stand in BUILD_NOTES.md.
"""

import json
import sys
from pathlib import Path
from unittest import mock

from jaxsae.dictionary import MethodConfig
from jaxsae.evaluate import EvaluateConfig, evaluate
from jaxsae.training import OptimizerConfig, TrainConfig, train
from jaxsae.training.routes import choose

SEEDS = (0, 1, 2)


def run(store: str, workdir: Path, steps: int, seed: int, **optimizer) -> float:
    """Trains once; returns the held-out FVU."""
    config = TrainConfig(
        store=store,
        workdir=str(workdir),
        batch_size=2048,
        tokens=steps * 2048,
        seed=seed,
        dead_tokens=400_000,
        mesh=(1, 1),
        method=MethodConfig(width=1024, k=32),
        optimization=OptimizerConfig(**{"learning_rate": 3e-3, **optimizer}),
    )
    dictionary = train(config)
    return evaluate(EvaluateConfig(run=str(workdir)), dictionary)["reconstruction"]["fvu"]


def main(store: str, output: Path, steps: int) -> None:
    """All runs, in turn."""
    for route, widest in (("pairs", 0), ("products", 2**20)):
        with mock.patch.object(choose, "widest_by_products", lambda *_, widest=widest: widest):
            for seed in SEEDS:
                fvu = run(store, output / f"{route}-{seed}", steps, seed)
                print(json.dumps({"route": route, "seed": seed, "fvu": fvu}), flush=True)
    choices = {
        "adam_bf16": {},
        "adam_factored": {},
        "sign": {"learning_rate": 5e-4},
        "lazy_rows": {"optimizer": "adam", "lazy_rows": True},
    }
    for name, flags in choices.items():
        fvu = run(store, output / name, steps, 0, **{"optimizer": name, **flags})
        print(json.dumps({"optimizer": name, "seed": 0, "fvu": fvu, **flags}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1500)
