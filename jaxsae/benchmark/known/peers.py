"""SAELens' own classes and trainer on the same batches: TopK, BatchTopK, Matryoshka and JumpReLU.

Its `SAETrainer` takes the steps: loss and auxiliary loss with its own coefficients, gradient clipped at 1, Adam, running
threshold, warm-up of coefficients. As its tutorial has it, the rate is constant and falls over the last fifth, and the
weight of JumpReLU's penalty rises over the first twentieth. k, target L0, prefixes and the rows after which a latent is
dead, at most its default of 1,000 steps, are ours. Judged is what it saves for inference, where BatchTopK has its threshold.
"""

import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxsae.benchmark.known.judge import Candidate
from jaxsae.benchmark.peers.base import device
from jaxsae.benchmark.peers.saelens import CLASSES
from jaxsae.benchmark.peers.worker import hide_broken_torchvision
from jaxsae.dictionary import MethodConfig
from jaxsae.progress import Progress
from jaxsae.training import TrainConfig
from jaxsae.training.setup import Setup

DEAD_STEPS = 1000  # SAELens' default
FALL, RISE = 5, 20  # parts of the run, as its tutorial has them


def train_saelens(run: TrainConfig, rate: float) -> Candidate:
    """Its SAE of the architecture of `run`, after as many steps on the same batches."""
    import torch

    hide_broken_torchvision()
    from sae_lens import SAE, saes
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    setup, method = Setup.of(run), run.method
    torch.manual_seed(run.seed)
    made, settings = (getattr(saes, CLASSES[method.architecture] + end) for end in ("", "Config"))
    sae = made(settings(d_in=setup.widths.d_in, d_sae=method.width, device=device(), **own_flags(method, run.steps)))
    flags = SAETrainerConfig(
        total_training_samples=run.steps * run.batch_size,
        train_batch_size_samples=run.batch_size,
        lr=rate,
        lr_end=rate,
        lr_decay_steps=run.steps // FALL,
        dead_feature_window=min(DEAD_STEPS, max(1, run.dead_window // run.batch_size)),
        device=device(),
    )
    trainer = SAETrainer(flags, sae, iter(()))
    with warnings.catch_warnings(), Progress(run.steps, f"saelens {method.architecture} {rate:g}", "step") as bar:
        warnings.simplefilter("ignore")  # torch's schedules warn of each other
        for x in _batches(setup):
            trainer.step(torch.from_numpy(x))
            trainer.n_training_steps += 1
            bar.advance(1)
    with tempfile.TemporaryDirectory(prefix="jaxsae-saelens-") as folder:
        sae.save_inference_model(folder)
        return _candidate(SAE.load_from_disk(folder, device=device()), setup)


def own_flags(method: MethodConfig, steps: int) -> dict[str, Any]:
    """What is set of SAELens' configuration besides widths, for a run of so many steps."""
    if method.architecture == "jumprelu":
        quadratic = {"jumprelu_sparsity_loss_mode": "quadratic", "target_l0": float(method.l0_target)}
        return quadratic | {"l0_warm_up_steps": steps // RISE}
    prefixes = {"matryoshka_widths": list(method.nested_prefixes)} if method.architecture == "matryoshka" else {}
    return {"k": method.k} | prefixes


def _batches(setup: Setup) -> Iterator[np.ndarray]:
    """float32 [batch_size, d]: the batches of the run, centred and scaled to norm sqrt(d)."""
    for step in range(setup.config.steps):
        yield np.float32((setup.batches[step] - setup.normalization.mean) * setup.normalization.scale)


def _candidate(sae, setup: Setup) -> Candidate:
    import torch

    mean, scale = setup.normalization.mean, setup.normalization.scale

    def apply(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        with torch.no_grad():
            latents = sae.encode(torch.from_numpy(np.float32((x - mean) * scale)).to(sae.device))
            x_hat = sae.decode(latents).cpu().numpy() / scale + mean
            rows, active = latents.nonzero(as_tuple=True)
        return x_hat, rows.cpu().numpy(), active.cpu().numpy()

    return Candidate(sae.W_dec.detach().cpu().numpy(), apply)
