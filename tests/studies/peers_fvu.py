"""FVU, and latents in use, beside the packages' own modules: equal rows, batches, steps, k, schedule; held-out rows.

    python tests/studies/peers_fvu.py STORE --width=2048 --k=16 --steps=1000 --holdout_rows=8000 --rates=0.002,0.004,0.008
    python tests/studies/peers_fvu.py STORE ... --seeds=0,1 --who=jaxsae,sparsify,saelens --features=features.npy

Each of --who is trained at each of --rates on the same centred and scaled batches; jaxsae once more with its own default
rate ("rate": null). The peers' modules take their trainers' steps: sparsify (Adam, unit decoder rows, its gradient
projected, b_dec at the mean of the first batch), SAELens (auxiliary loss 1, gradient clipped at 1). With --features, a
float32 [features, d_model] array of the directions that rows are sums of, also MCC (Hungarian). Prints one JSON line a
run. Needs the extra `interop`. Not a test: it takes minutes, and its figures stand in BUILD_NOTES.md.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable

os.environ["SPARSIFY_DISABLE_TRITON"] = "1"

import numpy as np
import torch

try:
    import torchvision  # noqa: F401
except Exception:
    sys.modules["torchvision"] = None  # one that is built for another torch breaks the import of both packages

from jaxsae.benchmark.peers import saelens_step, sparsify_step
from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.evaluate.errors_of_rows import Errors
from jaxsae.evaluate.reconstruction import Firing
from jaxsae.training import OptimizerConfig, TrainConfig, train
from jaxsae.training.optimizer import schedule
from jaxsae.training.setup import Setup


def rates_of(setup: Setup) -> Callable[[int], float]:
    """Share of the peak rate at a step, as our own schedule has it."""
    share = schedule(setup.config.optimization, 1.0, setup.config.steps)
    return lambda step: float(share(np.int32(step)))


def batches_of(setup: Setup):
    """Batches as the trainer sees them."""
    for step in range(setup.config.steps):
        x = (setup.batches[step] - setup.normalization.mean) * setup.normalization.scale
        yield torch.from_numpy(np.float32(x))


def follow(setup: Setup, step: Callable[[torch.Tensor], None], adam: torch.optim.Adam) -> None:
    """A peer's step over the whole run, with our schedule."""
    risen = torch.optim.lr_scheduler.LambdaLR(adam, rates_of(setup))
    for x in batches_of(setup):
        step(x)
        risen.step()


def sparsify(setup: Setup, rate: float) -> Params:
    """sparsify's SparseCoder after its trainer's steps."""
    from sparsify.config import SparseCoderConfig
    from sparsify.sparse_coder import SparseCoder

    method = setup.config.method
    sae = SparseCoder(setup.widths.d_in, SparseCoderConfig(num_latents=method.width, k=method.k), dtype=torch.float32)
    sae.b_dec.data = next(batches_of(setup)).mean(0)
    sae.set_decoder_norm_to_unit_norm()
    adam = torch.optim.Adam(sae.parameters(), lr=rate)
    follow(setup, sparsify_step(sae, adam), adam)
    return _params(sae.encoder.weight, sae.encoder.bias, sae.W_dec, sae.b_dec)


def saelens(setup: Setup, rate: float) -> Params:
    """SAELens' TopKTrainingSAE after its trainer's steps, decoder norms folded in."""
    from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig

    method = setup.config.method
    sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=setup.widths.d_in, d_sae=method.width, k=method.k, device="cpu"))
    adam = torch.optim.Adam(sae.parameters(), lr=rate)
    follow(setup, saelens_step(sae, adam), adam)
    sae.fold_W_dec_norm()
    return _params(sae.W_enc.T, sae.b_enc, sae.W_dec, sae.b_dec)


def jaxsae(setup: Setup, rate: float) -> Params:
    """The run that the configuration names, as `jaxsae train` makes it."""
    params = train(setup.config).params
    shift, scale = setup.normalization.mean, setup.normalization.scale
    weights = np.asarray(params.W_enc), np.asarray(params.b_enc) * scale, np.asarray(params.W_dec)
    return Params.of(*weights, (np.asarray(params.b_dec) - shift) * scale)


def _params(*weights) -> Params:
    return Params.of(*(np.ascontiguousarray(w.detach().numpy()) for w in weights))


def judge(setup: Setup, params: Params, features: np.ndarray | None) -> dict[str, float]:
    """FVU and classes of latents on the held-out rows; with the true directions also MCC."""
    rows = setup.read([(setup.rows - setup.holdout, setup.rows)])
    x = np.float32((rows - setup.normalization.mean) * setup.normalization.scale)
    dictionary = Dictionary(params, setup.config.method)
    errors, firing = Errors(x.mean(0, dtype=np.float64)), Firing(setup.config.method.width)
    for first in range(0, len(x), 1000):
        latents = dictionary.encode(x[first : first + 1000])
        errors.add(x[first : first + 1000], dictionary.decode(latents))
        firing.add(latents)
    found = firing.figures()
    out = {"fvu": errors.figures()["fvu"]} | {n: found[f"{n}_fraction"] for n in ("dead", "rare", "dense")}
    if features is not None:
        from scipy.optimize import linear_sum_assignment

        cosines = np.abs(params.W_dec @ (features / np.linalg.norm(features, axis=1, keepdims=True)).T)
        out["mcc"] = cosines[linear_sum_assignment(-cosines)].mean()
    return {name: round(float(value), 5) for name, value in out.items()}


WHO = {"jaxsae": jaxsae, "sparsify": sparsify, "saelens": saelens}


def main(flags: argparse.Namespace) -> None:
    """All runs, in turn."""
    features = np.load(flags.features) if flags.features else None
    rates = [float(rate) for rate in flags.rates.split(",")] if flags.rates else []
    for seed in map(int, flags.seeds.split(",")):
        for who in flags.who.split(","):
            for rate in [*rates, *([None] if who == "jaxsae" else [])]:
                torch.manual_seed(seed)
                with tempfile.TemporaryDirectory() as folder:
                    config = TrainConfig(
                        store=flags.store,
                        workdir=f"{folder}/run",
                        batch_size=flags.batch_size,
                        tokens=flags.steps * flags.batch_size,
                        seed=seed,
                        holdout_rows=flags.holdout_rows,
                        mesh=(1, 1),
                        method=MethodConfig(width=flags.width, k=flags.k),
                        optimization=OptimizerConfig(learning_rate=rate),
                    )
                    setup, started = Setup.of(config), time.perf_counter()
                    params = WHO[who](setup, rate)
                    seconds = round(time.perf_counter() - started)
                    found = judge(setup, params, features)
                print(json.dumps({"who": who, "rate": rate, "seed": seed, **found, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    for name, default in (("width", None), ("k", None), ("steps", None), ("batch_size", 2048), ("holdout_rows", 8000)):
        parser.add_argument(f"--{name}", type=int, default=default, required=default is None)
    for name, default in (("rates", ""), ("seeds", "0"), ("who", ",".join(WHO)), ("features", "")):
        parser.add_argument(f"--{name}", default=default)
    main(parser.parse_args())
