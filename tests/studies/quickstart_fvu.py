"""FVU on the quickstart's store: the sparse step against a dense reference, and what each optimiser costs.

    python tests/studies/quickstart_fvu.py STORE OUTPUT_DIR [STEPS]

STORE is the store that `./launch/quickstart` leaves (runs/quickstart/store). Prints one JSON line a run.
Not a test: it takes minutes, and its figures stand in BUILD_NOTES.md.
"""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp

from jaxsae.dictionary import MethodConfig, methods
from jaxsae.dictionary.base import Report, squared_sums
from jaxsae.dictionary.topk import TopK
from jaxsae.evaluate import EvaluateConfig, evaluate
from jaxsae.parallel import copy_to_data, sum_over_data
from jaxsae.training import OptimizerConfig, TrainConfig, train

SEEDS = (0, 1, 2)


class DenseTopK(TopK):
    """TopK as one would write it first: all pre-activations, a scatter, autodiff. For one device."""

    def requests(self, rows, d_model, use_aux):
        """None: nothing is selected sparsely, so gradients are formed whole."""
        return None

    def loss(self, params, batch, use_aux):
        x, d = batch.x, batch.x.shape[1]
        params = jax.tree.map(copy_to_data, params)
        pre = (x - params.b_dec) @ params.W_enc.T + params.b_enc
        z = self._dense(pre, self.config.k)
        error = x - params.b_dec - z @ params.W_dec
        residual = jax.lax.stop_gradient(error)
        squared_error, squared_norm = squared_sums(x, residual)
        aux = jnp.zeros(())
        if use_aux:
            dead = self._dense(jnp.where(batch.dead, pre, -jnp.inf), self.aux_k(d))
            aux = self._aux_loss(residual, dead @ params.W_dec, squared_error)
        report = Report(
            squared_error,
            squared_norm,
            active=sum_over_data((z > 0).sum()),
            aux=sum_over_data(jax.lax.stop_gradient(aux)),
            firings=sum_over_data((z > batch.firing).sum(0)),
            smallest=jnp.zeros(()),
        )
        return jnp.square(error).sum() / (batch.rows * d) + aux, report

    def _dense(self, pre, k):
        values, indices = jax.lax.top_k(pre, k)
        rows = jnp.arange(pre.shape[0])[:, None]
        return jnp.zeros_like(pre).at[rows, indices].set(jax.nn.relu(values))


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
    for step, method in (("sparse", TopK), ("dense", DenseTopK)):
        methods.METHODS["topk"] = method
        for seed in SEEDS:
            fvu = run(store, output / f"{step}-{seed}", steps, seed)
            print(json.dumps({"step": step, "seed": seed, "fvu": fvu}), flush=True)
    methods.METHODS["topk"] = TopK
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
