"""Held-out FVU of sparsify's transcoder on the rows, batches and schedule that `jaxsae train --reads --writes` has.

    python tests/studies/transcoder_fvu.py STORE READ WRITTEN --width=2048 --k=16 --steps=500 --holdout_rows=24000 \
        --rates=0.002,0.004 --seeds=0,1 [--skip]

Its module takes Adam steps on centred and scaled batches, b_dec starts at the mean of the first batch, as in its trainer;
with --aux its auxiliary loss has that weight, and our window of dead latents. Prints one JSON line a run. Needs the extra
`interop`. Not a test: a run takes minutes, and figures stand in BUILD_NOTES.md.
"""

import argparse
import json
import os
import sys
import tempfile

os.environ["SPARSIFY_DISABLE_TRITON"] = "1"

import numpy as np
import torch

try:
    import torchvision  # noqa: F401
except Exception:
    sys.modules["torchvision"] = None  # one that is built for another torch breaks the import

from sparsify.config import SparseCoderConfig
from sparsify.sparse_coder import SparseCoder

from jaxsae.dictionary import MethodConfig
from jaxsae.training import OptimizerConfig, TrainConfig
from jaxsae.training.optimizer import schedule
from jaxsae.training.setup import Setup

FIRES = 1e-3


def sides(setup: Setup, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """What is read and what is written of rows, as the trainer sees them."""
    y = np.float32((rows - setup.normalization.mean) * setup.normalization.scale)
    return tuple(torch.from_numpy(np.ascontiguousarray(side(y))) for side in (setup.widths.read, setup.widths.written))


def trained(setup: Setup, rate: float, skip: bool, aux: float) -> SparseCoder:
    """The module after a run."""
    config, method = setup.config, setup.config.method
    settings = SparseCoderConfig(num_latents=method.width, k=method.k, transcode=True, skip_connection=skip)
    coder = SparseCoder(setup.widths.d_in, settings, dtype=torch.float32)
    adam, share = torch.optim.Adam(coder.parameters(), lr=rate), schedule(OptimizerConfig(), 1.0, config.steps)
    risen = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: float(share(np.int32(step))))
    since = torch.zeros(method.width, dtype=torch.long)
    for step in range(config.steps):
        x, wanted = sides(setup, setup.batches[step])
        if not step:
            coder.b_dec.data = wanted.mean(0)
        out = coder(x, wanted, dead_mask=since > config.dead_window if aux else None)
        (out.fvu + aux * out.auxk_loss).backward()
        adam.step()
        adam.zero_grad()
        risen.step()
        since += config.batch_size
        since[out.latent_indices[out.latent_acts > FIRES].unique()] = 0
    return coder


@torch.no_grad()
def fvu(setup: Setup, coder: SparseCoder) -> float:
    """On the held-out rows."""
    x, wanted = sides(setup, setup.read([(setup.rows - setup.holdout, setup.rows)]))
    parts = zip(x.split(1000), wanted.split(1000), strict=True)
    error = sum(((coder(a, b).sae_out - b).double() ** 2).sum() for a, b in parts)
    return float(error / ((wanted - wanted.mean(0)).double() ** 2).sum())


def main(flags: argparse.Namespace) -> None:
    """All runs, in turn."""
    for seed in map(int, flags.seeds.split(",")):
        for rate in map(float, flags.rates.split(",")):
            torch.manual_seed(seed)
            with tempfile.TemporaryDirectory() as folder:
                config = TrainConfig(
                    store=flags.store,
                    workdir=f"{folder}/run",
                    reads=(flags.read,),
                    writes=(flags.written,),
                    batch_size=flags.batch_size,
                    tokens=flags.steps * flags.batch_size,
                    seed=seed,
                    holdout_rows=flags.holdout_rows,
                    mesh=(1, 1),
                    method=MethodConfig(width=flags.width, k=flags.k, transcode=True),
                )
                setup = Setup.of(config)
                found = fvu(setup, trained(setup, rate, flags.skip, flags.aux))
            print(
                json.dumps({"who": "sparsify", "seed": seed, "rate": rate, "skip": flags.skip, "fvu": found}),
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("store", "read", "written"):
        parser.add_argument(name)
    for name, default in (("width", None), ("k", None), ("steps", None), ("batch_size", 2048), ("holdout_rows", 8000)):
        parser.add_argument(f"--{name}", type=int, default=default, required=default is None)
    parser.add_argument("--rates", default="0.004")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--aux", type=float, default=0.0)
    parser.add_argument("--skip", action="store_true")
    main(parser.parse_args())
