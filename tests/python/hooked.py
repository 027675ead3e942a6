"""A small Llama of transformers, its logits, and what block 1 of it gives, seen and replaced by hooks of the tests' own."""

import numpy as np
from python.small import make_dictionary

from jaxsae import hooks

IDS = np.arange(3, 3 + 2 * 7).reshape(2, 7)


def sae_of(site="resid_post.1", architecture="topk", **more):
    """A dictionary of a site."""
    return make_dictionary(architecture, d=16, site=site, **more)


def logits(model, ids=IDS):
    """Of input_ids, as a NumPy array."""
    import torch

    with torch.no_grad():
        return model(input_ids=torch.tensor(ids)).logits.float().numpy()


def block_output(model, layer=1):
    """What a block gives, read by a hook of the test's own."""
    seen = []
    keep = lambda _, args, out: seen.append((out[0] if isinstance(out, tuple) else out).clone())
    handle = model.model.layers[layer].register_forward_hook(keep)
    logits(model)
    handle.remove()
    return seen[0]


def with_block_output(model, new, layer=1):
    """Logits with `new` in the place of what block 1 gives."""
    put = lambda _, args, out: (new, *out[1:]) if isinstance(out, tuple) else new
    handle = model.model.layers[layer].register_forward_hook(put)
    found = logits(model)
    handle.remove()
    return found


def changed_positions(model, context):
    """bool [B, T]: where block 1's output is another within a context."""
    before = block_output(model)
    with context, hooks.read(model, "resid_post.1") as seen:
        logits(model)
    return (seen["resid_post.1"] != before).any(-1).numpy()
