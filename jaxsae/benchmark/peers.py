"""Other trainers on the same work: one step each of their own training code, each in a process of its own.

A step is what their trainers do on a batch: forward, loss, backward, gradient projection where they have it, optimiser,
decoder normalisation, and firing counts. `dead_fraction` of the latents are dead to them, kept from firing as ours are.
"""

import importlib.util
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from jaxsae import interpreter
from jaxsae.benchmark.config import BenchmarkConfig
from jaxsae.benchmark.dead import DEAD_LENGTH, dead_latents

PACKAGES = {"sparsify": "sparsify", "saelens": "sae_lens", "dictionary_learning": "dictionary_learning"}
VARIANTS = {
    "sparsify": ("sparsify-sign", "sparsify-adam"),
    "saelens": ("saelens-sparse",),
    "dictionary_learning": ("dictionary_learning",),
}
DEAD_ROWS = 10**7  # without firing, after which a latent is dead to the trainers of sparsify and SAELens


def compare(config: BenchmarkConfig, ours: dict[str, Any]) -> dict[str, Any]:
    """Times the packages of `config.compare` in turn; one that is not installed says so.

    Returns:
      variant -> seconds, cpu_seconds, and their ratios to our step; or variant -> why it was skipped.
    """
    out: dict[str, Any] = {}
    for package in config.compare:
        if not is_installed(package):
            out[package] = {"skipped": "not installed: pip install 'jaxsae[interop]'"}
            continue
        for variant in VARIANTS[package]:
            out[variant] = _time_in_process(variant, config, ours)
    return out


def is_installed(package: str) -> bool:
    """Whether a package of `PACKAGES`, and torch, can be imported here."""
    return all(importlib.util.find_spec(name) is not None for name in (PACKAGES[package], "torch"))


def _time_in_process(variant: str, config: BenchmarkConfig, ours: dict[str, Any]) -> dict[str, Any]:
    sizes = {
        "d_model": config.d_model,
        "width": config.method.width,
        "k": config.method.k,
        "batch_size": config.rows_of_a_batch,
        "repeats": config.repeats or 15,
        "seed": config.seed,
        "dead_fraction": config.dead_fraction,
    }
    command = interpreter.command("jaxsae.benchmark.peers", variant, json.dumps(sizes))
    done = subprocess.run(command, env=interpreter.environment(), capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if re.match(r"[\w.]*(Error|Exception)", line)]
        return {"skipped": f"its step failed: {(errors or ['no message'])[0][:200]}"}
    timing = json.loads(done.stdout.strip().splitlines()[-1])
    timing["seconds_over_ours"] = timing["seconds"] / ours["step_seconds"]
    timing["cpu_seconds_over_ours"] = timing["cpu_seconds"] / ours["step_cpu_seconds"]
    return timing


def sparsify_step(sae, optimizer, dead=None) -> Callable[[Any], Any]:
    """sparsify's trainer's step on a batch [rows, d], for its `SparseCoder` with unit decoder rows; `dead`: bool [n]."""
    import torch

    since_fired = torch.zeros(sae.num_latents, dtype=torch.long, device=sae.device)
    if dead is not None:
        since_fired[dead] = 2 * DEAD_ROWS

    def step(x):
        out = sae(x, dead_mask=since_fired > DEAD_ROWS)
        (out.fvu + out.auxk_loss / 32).backward()
        sae.remove_gradient_parallel_to_decoder_directions()
        optimizer.step()
        optimizer.zero_grad()
        sae.set_decoder_norm_to_unit_norm()
        since_fired.add_(x.shape[0])
        since_fired[out.latent_indices.flatten()] = 0

    step.dead_share = lambda: _share(since_fired > DEAD_ROWS)
    return step


def saelens_step(sae, optimizer, dead=None) -> Callable[[Any], Any]:
    """SAELens' trainer's step on a batch [rows, d], for its `TopKTrainingSAE`; `dead`: bool [n]."""
    import torch
    from sae_lens.saes.sae import TrainStepInput

    since_fired = torch.zeros(sae.cfg.d_sae, device=sae.device)
    if dead is not None:
        since_fired[dead] = 2 * DEAD_ROWS

    def step(x):
        dead = since_fired * x.shape[0] > DEAD_ROWS
        given = {"coefficients": {}, "dead_neuron_mask": dead, "n_training_steps": 0, "is_logging_step": False}
        out = sae.training_forward_pass(TrainStepInput(sae_in=x, **given))
        with torch.no_grad():
            fired = out.feature_acts.bool().float().sum(-2).bool()
            since_fired.add_(1)
            since_fired[fired.to_dense() if fired.is_sparse else fired] = 0
        out.loss.backward()
        torch.nn.utils.clip_grad_norm_(sae.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    step.dead_share = lambda: _share(since_fired > DEAD_ROWS)
    return step


def _share(mask) -> float:
    """Of the latents that were dead when the timing began, and still are."""
    return float(mask.float().mean())


def _sparsify(torch, sizes: dict[str, int], sign: bool) -> Callable[[Any], Any]:
    if _device(torch) == "cpu":  # where Triton is installed it would be taken there too, and find no driver
        os.environ["SPARSIFY_DISABLE_TRITON"] = "1"
    from sparsify.config import SparseCoderConfig
    from sparsify.sign_sgd import SignSGD
    from sparsify.sparse_coder import SparseCoder

    config = SparseCoderConfig(num_latents=sizes["width"], k=sizes["k"], normalize_decoder=True)
    sae = SparseCoder(sizes["d_model"], config, device=_device(torch), dtype=torch.float32)
    optimizer = SignSGD(sae.parameters(), lr=1e-6) if sign else torch.optim.Adam(sae.parameters(), lr=1e-6)
    return sparsify_step(sae, optimizer, _kill(torch, sae.encoder.weight, sizes))


def _saelens(torch, sizes: dict[str, int]) -> Callable[[Any], Any]:
    from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig

    config = TopKTrainingSAEConfig(
        d_in=sizes["d_model"],
        d_sae=sizes["width"],
        k=sizes["k"],
        use_sparse_activations=True,
        rescale_acts_by_decoder_norm=False,  # its sparse path has no backward with it
        aux_loss_coefficient=1 / 32,
        device=_device(torch),
    )
    sae = TopKTrainingSAE(config)
    dead = _kill(torch, sae.W_enc.T, sizes)
    return saelens_step(sae, torch.optim.Adam(sae.parameters(), lr=1e-6), dead)


def _dictionary_learning(torch, sizes: dict[str, int]) -> Callable[[Any], Any]:
    from dictionary_learning.trainers.top_k import TopKTrainer

    trainer = TopKTrainer(
        steps=10**6,
        activation_dim=sizes["d_model"],
        dict_size=sizes["width"],
        k=sizes["k"],
        layer=0,
        lm_name="none",
        lr=1e-6,
        device=_device(torch),
    )
    trainer.num_tokens_since_fired[_kill(torch, trainer.ae.encoder.weight, sizes)] = 2 * DEAD_ROWS

    def step(x):
        trainer.update(1, x)  # step 0 would compute a geometric median first

    step.dead_share = lambda: _share(trainer.num_tokens_since_fired > DEAD_ROWS)
    return step


def _kill(torch, encoder, sizes: dict[str, Any]):
    """bool [n], the dead latents; their rows of the encoder's weights [n, d] are made too short to fire."""
    dead = torch.from_numpy(dead_latents(encoder.shape[0], sizes["dead_fraction"])).to(encoder.device)
    with torch.no_grad():
        encoder[dead] *= DEAD_LENGTH
    return dead


STEPS = {
    "sparsify-sign": lambda torch, sizes: _sparsify(torch, sizes, sign=True),
    "sparsify-adam": lambda torch, sizes: _sparsify(torch, sizes, sign=False),
    "saelens-sparse": _saelens,
    "dictionary_learning": _dictionary_learning,
}


def _device(torch) -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _hide_broken_torchvision() -> None:
    """A torchvision built for another torch breaks the import of packages that only look whether it is there."""
    try:
        import torchvision  # noqa: F401
    except Exception:
        sys.modules["torchvision"] = None


def _main(variant: str, sizes: dict[str, int]) -> None:
    import torch

    _hide_broken_torchvision()

    torch.manual_seed(sizes["seed"])
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    step, taken = STEPS[variant](torch, sizes), []
    cuda = torch.cuda.is_available()
    for number in range(-2, sizes["repeats"]):
        x = torch.randn(sizes["batch_size"], sizes["d_model"], device=_device(torch))
        wall, cpu = time.perf_counter(), time.process_time()
        step(x)
        if cuda:
            torch.cuda.synchronize()
        if number >= 0:
            taken.append((time.perf_counter() - wall, time.process_time() - cpu))
    seconds, cpu_seconds = map(statistics.median, zip(*taken, strict=True))
    found = {"seconds": seconds, "cpu_seconds": cpu_seconds, "repeats": len(taken), "dead_fraction": step.dead_share()}
    print(json.dumps(found))


if __name__ == "__main__":
    _main(sys.argv[1], json.loads(sys.argv[2]))
