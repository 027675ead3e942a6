"""dictionary_learning: all six architectures, by its own trainers."""

from functools import partial
from itertools import pairwise

from jaxsae.benchmark.peers.base import DEAD_ROWS, LEARNING_RATE, Peer, Sizes, Step, device, kill, share

LATER = 1  # the number of the step: step 0 would compute a geometric median first


def _step(sizes: Sizes, architecture: str) -> Step:
    from dictionary_learning.trainers import batch_top_k, gdm, jumprelu, matryoshka_batch_top_k, standard, top_k

    k, target = {"k": sizes.k}, {"target_l0": sizes.target_l0} if sizes.target_l0 else {}
    made, own = {
        "topk": (top_k.TopKTrainer, k),
        "batchtopk": (batch_top_k.BatchTopKTrainer, k),
        "matryoshka": (
            matryoshka_batch_top_k.MatryoshkaBatchTopKTrainer,
            k | {"group_fractions": group_fractions(sizes.prefixes)},
        ),
        "jumprelu": (jumprelu.JumpReluTrainer, target),
        "gated": (gdm.GatedSAETrainer, {}),
        "relu": (standard.StandardTrainerAprilUpdate, {}),  # the one whose decoder rows are free, as ours are
    }[architecture]
    trainer = made(
        steps=10**6,
        activation_dim=sizes.d_model,
        dict_size=sizes.width,
        layer=0,
        lm_name="none",
        lr=LEARNING_RATE,
        device=device(),
        **own,
    )
    weights = trainer.ae.W_enc.T if hasattr(trainer.ae, "W_enc") else trainer.ae.encoder.weight
    dead, since_fired = kill(weights, sizes), getattr(trainer, "num_tokens_since_fired", None)
    if since_fired is not None:  # Gated and ReLU count no firings
        since_fired[dead] = 2 * DEAD_ROWS

    def step(x):
        trainer.update(LATER, x)

    step.dead_share = lambda: 0.0 if since_fired is None else share(trainer.num_tokens_since_fired > DEAD_ROWS)
    return step


def group_fractions(prefixes: tuple[int, ...]) -> list[float]:
    """The prefixes as shares of the latents, which the trainer multiplies out again and rounds down."""
    width = prefixes[-1]
    first = [(stop - start + 0.5) / width for start, stop in pairwise((0, *prefixes[:-1]))]
    return [*first, 1 - sum(first)]


_ALL = ("topk", "batchtopk", "matryoshka", "jumprelu", "gated", "relu")
DICTIONARY_LEARNING = Peer(
    "dictionary_learning", {name: {"dictionary_learning": partial(_step, architecture=name)} for name in _ALL}
)
