"""sparsify: TopK, with its sign updates and with Adam."""

import os
from functools import partial

from jaxsae.benchmark.peers.base import DEAD_ROWS, LEARNING_RATE, Peer, Sizes, Step, device, kill, share


def sparsify_step(sae, optimizer, dead=None) -> Step:
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

    step.dead_share = lambda: share(since_fired > DEAD_ROWS)
    return step


def _step(sizes: Sizes, sign: bool) -> Step:
    import torch

    if device() == "cpu":  # where Triton is installed it would be taken there too, and find no driver
        os.environ["SPARSIFY_DISABLE_TRITON"] = "1"
    from sparsify.config import SparseCoderConfig
    from sparsify.sign_sgd import SignSGD
    from sparsify.sparse_coder import SparseCoder

    config = SparseCoderConfig(num_latents=sizes.width, k=sizes.k, normalize_decoder=True)
    sae = SparseCoder(sizes.d_model, config, device=device(), dtype=torch.float32)
    optimizer = (SignSGD if sign else torch.optim.Adam)(sae.parameters(), lr=LEARNING_RATE)
    return sparsify_step(sae, optimizer, kill(sae.encoder.weight, sizes))


SPARSIFY = Peer(
    "sparsify", {"topk": {"sparsify-sign": partial(_step, sign=True), "sparsify-adam": partial(_step, sign=False)}}
)
