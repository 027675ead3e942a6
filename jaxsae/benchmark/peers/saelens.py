"""SAELens: all six architectures; TopK by its sparse activations, the others as its defaults have them."""

from functools import partial
from typing import Any

from jaxsae.benchmark.peers.base import DEAD_ROWS, LEARNING_RATE, Peer, Sizes, Step, device, kill, share

CLASSES = {
    "topk": "TopKTrainingSAE",
    "batchtopk": "BatchTopKTrainingSAE",
    "matryoshka": "MatryoshkaBatchTopKTrainingSAE",
    "jumprelu": "JumpReLUTrainingSAE",
    "gated": "GatedTrainingSAE",
    "relu": "StandardTrainingSAE",
}


def saelens_step(sae, optimizer, dead=None) -> Step:
    """SAELens' trainer's step on a batch [rows, d], for any `TrainingSAE` of its; `dead`: bool [n]."""
    import torch
    from sae_lens.saes.sae import TrainStepInput

    since_fired = torch.zeros(sae.cfg.d_sae, device=sae.device)
    if dead is not None:
        since_fired[dead] = 2 * DEAD_ROWS
    # Weights of penalties, after their warm-up.
    coefficients = {name: getattr(given, "value", given) for name, given in sae.get_coefficients().items()}

    def step(x):
        dead = since_fired * x.shape[0] > DEAD_ROWS
        given = {
            "coefficients": coefficients,
            "dead_neuron_mask": dead,
            "n_training_steps": 0,
            "is_logging_step": False,
        }
        out = sae.training_forward_pass(TrainStepInput(sae_in=x, **given))
        with torch.no_grad():
            fired = out.feature_acts.bool().float().sum(-2).bool()
            since_fired.add_(1)
            since_fired[fired.to_dense() if fired.is_sparse else fired] = 0
        out.loss.backward()
        torch.nn.utils.clip_grad_norm_(sae.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    step.dead_share = lambda: share(since_fired > DEAD_ROWS)
    return step


def _step(sizes: Sizes, architecture: str) -> Step:
    import torch
    from sae_lens import saes

    made, settings = (getattr(saes, CLASSES[architecture] + end) for end in ("", "Config"))
    sae = made(settings(d_in=sizes.d_model, d_sae=sizes.width, device=device(), **_own_flags(sizes, architecture)))
    dead = kill(sae.W_enc.T, sizes)
    return saelens_step(sae, torch.optim.Adam(sae.parameters(), lr=LEARNING_RATE), dead)


def _own_flags(sizes: Sizes, architecture: str) -> dict[str, Any]:
    """What is set besides widths: k and its like, and for TopK what its sparse path needs."""
    k = {"k": sizes.k}
    # The sparse path has no backward with the rescaling.
    sparse = {"use_sparse_activations": True, "rescale_acts_by_decoder_norm": False, "aux_loss_coefficient": 1 / 32}
    quadratic = {"jumprelu_sparsity_loss_mode": "quadratic", "target_l0": sizes.target_l0}
    flags = {"topk": k | sparse, "batchtopk": k, "matryoshka": k | {"matryoshka_widths": list(sizes.prefixes)}}
    flags["jumprelu"] = quadratic if sizes.target_l0 else {}
    return flags.get(architecture, {})


SAELENS = Peer(
    "sae_lens",
    {name: {"saelens-sparse" if name == "topk" else "saelens": partial(_step, architecture=name)} for name in CLASSES},
)
