"""Held-out FVU against steps: the start at unit length, the fitted start, and the fitted start with today's rates.

    python tests/studies/start_curves.py PICTURE.png NAME=STORE:WIDTH:K:HOLDOUT_ROWS ... [--steps=1000] [--rate=0.002]

The first two differ in --start_scale alone, at one rate for all weights and no latent ever called dead. Prints one JSON
line a run, with the number of steps after which it is at the end of the first; draws a panel for each store. Not a test:
it takes minutes.
"""

import argparse
import json
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib.figure import Figure

from jaxsae.dictionary import MethodConfig
from jaxsae.training import OptimizerConfig, TrainConfig, train
from jaxsae.training.metrics import read_metrics

BATCH, POINTS = 2048, 40
FORMER = {"decoder_rate": 1.0}
RUNS = {
    "unit length": ({"start_scale": 1.0, "dead_tokens": 10_000_000}, FORMER),
    "fitted": ({"dead_tokens": 10_000_000}, FORMER),
    "fitted, today's defaults": ({}, {"learning_rate": None}),
}


def curve(
    store: str, width: int, k: int, holdout: int, steps: int, flags: dict, rates: dict
) -> list[tuple[int, float]]:
    """(step, held-out FVU) of a run."""
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(
            store=store,
            workdir=f"{folder}/run",
            batch_size=BATCH,
            tokens=steps * BATCH,
            holdout_rows=holdout,
            checkpoint_every=max(1, steps // POINTS),
            keep_checkpoints=1,
            mesh=(1, 1),
            method=MethodConfig(width=width, k=k),
            optimization=OptimizerConfig(**rates),
            **flags,
        )
        train(config)
        lines = read_metrics(Path(config.workdir) / "metrics.jsonl")
    return [(line["step"], line["held_out_fvu"]) for line in lines if "held_out_fvu" in line]


def main(flags: argparse.Namespace) -> None:
    """All runs, in turn, and the picture."""
    figure = Figure(figsize=(5 * len(flags.stores), 3.6), layout="constrained")
    panels = figure.subplots(1, len(flags.stores), squeeze=False)[0]
    for axes, given in zip(panels, flags.stores, strict=True):
        name, _, rest = given.partition("=")
        store, *sizes = rest.rsplit(":", 3)
        width, k, holdout = map(int, sizes)
        for run, (chosen, rates) in RUNS.items():
            points = curve(store, width, k, holdout, flags.steps, chosen, {"learning_rate": flags.rate} | rates)
            if run == "unit length":
                end = points[-1][1]
            reached = next((step for step, fvu in points if fvu <= end), None)
            print(json.dumps({"store": name, "run": run, "fvu": points[-1][1], "at_first_s_end": reached}), flush=True)
            axes.plot(*zip(*points, strict=True), label=run)
        axes.axhline(end, color="0.7", linewidth=0.8, zorder=0)
        axes.set(
            title=name, xlabel=f"steps of {BATCH:,} rows", ylabel="held-out FVU", yscale="log", ylim=(None, 8 * end)
        )
        axes.legend(frameon=False)
    figure.savefig(flags.picture, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture")
    parser.add_argument("stores", nargs="+")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=0.002)
    main(parser.parse_args())
