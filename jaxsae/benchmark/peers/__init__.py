"""Other trainers on the same work: one step each of their own training code, each in a process of its own.

A step is what their trainers do on a batch: forward, loss, backward, gradient projection where they have it, optimiser,
decoder normalisation, and firing counts. Sizes, k and the L0 that is aimed at are ours, all else is as they have it. Of
architectures that rank latents `dead_fraction` are dead to them, kept from firing as ours are.
"""

from jaxsae.benchmark.peers.processes import compare, is_installed
from jaxsae.benchmark.peers.saelens import saelens_step
from jaxsae.benchmark.peers.sparsify import sparsify_step

__all__ = ["compare", "is_installed", "saelens_step", "sparsify_step"]
