"""A method of ours, trained as users train it, and as they get it."""

import dataclasses
from pathlib import Path

import numpy as np

from jaxsae.benchmark.config import BenchmarkConfig
from jaxsae.benchmark.known.judge import Candidate
from jaxsae.dictionary import Dictionary, MethodConfig
from jaxsae.progress import hushed
from jaxsae.training import TrainConfig, load, train

BASE = "relu"  # in a run's directory: the run that it starts from


def train_config(
    config: BenchmarkConfig, method: MethodConfig, store: str, workdir: Path, seed: int, rows: int
) -> TrainConfig:
    """The run: every one of the store's rows once; `rescaled` learns on them again what a relu run found on them."""
    return TrainConfig(
        store=store,
        workdir=str(workdir),
        initialize_from=str(workdir / BASE) if method.architecture == "rescaled" else "",
        batch_size=config.rows_of_a_batch,
        tokens=rows,
        seed=seed,
        holdout_rows=0,  # what is judged stands in no store
        compute_dtype=config.compute_dtype,
        mesh=config.mesh,
        dead_tokens=config.known.dead_tokens,
        checkpoint_every=rows // config.rows_of_a_batch,
        method=method,
        optimization=config.optimization,
    )


def train_ours(run: TrainConfig, k: int) -> Candidate:
    """The dictionary of a finished run; k: the L0 of the relu run that a `rescaled` one starts from."""
    with hushed():
        if run.initialize_from:
            relu = MethodConfig(width=run.method.width, architecture="relu", k=k)
            train(dataclasses.replace(run, workdir=run.initialize_from, initialize_from="", method=relu))
        train(run)
    return candidate_of(load(run.workdir))


def candidate_of(dictionary: Dictionary) -> Candidate:
    """A dictionary as `judge` takes it; a latent is active where it is not 0."""

    def apply(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        latents = dictionary.encode(x)
        rows, places = np.nonzero(np.asarray(latents.values))
        return np.asarray(dictionary.decode(latents)), rows, np.asarray(latents.indices)[rows, places]

    return Candidate(np.asarray(dictionary.params.W_dec), apply)
