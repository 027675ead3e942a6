"""A method of ours, trained as users train it, and as they get it."""

from pathlib import Path

import numpy as np

from jaxsae.benchmark.config import BenchmarkConfig
from jaxsae.benchmark.known.judge import Candidate
from jaxsae.dictionary import Dictionary, MethodConfig
from jaxsae.progress import hushed
from jaxsae.training import TrainConfig, load, train


def train_config(
    config: BenchmarkConfig, method: MethodConfig, store: str, workdir: Path, seed: int, rows: int
) -> TrainConfig:
    """The run: every one of the store's rows once."""
    return TrainConfig(
        store=store,
        workdir=str(workdir),
        batch_size=config.rows_of_a_batch,
        tokens=rows,
        seed=seed,
        holdout_rows=0,  # what is judged stands in no store
        compute_dtype=config.compute_dtype,
        mesh=config.mesh,
        checkpoint_every=rows // config.rows_of_a_batch,
        method=method,
        optimization=config.optimization,
    )


def train_ours(run: TrainConfig) -> Candidate:
    """The dictionary of a finished run."""
    with hushed():
        train(run)
    return candidate_of(load(run.workdir))


def candidate_of(dictionary: Dictionary) -> Candidate:
    """A dictionary as `judge` takes it; a latent is active where it is not 0."""

    def apply(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        latents = dictionary.encode(x)
        rows, places = np.nonzero(np.asarray(latents.values))
        return np.asarray(dictionary.decode(latents)), rows, np.asarray(latents.indices)[rows, places]

    return Candidate(np.asarray(dictionary.params.W_dec), apply)
