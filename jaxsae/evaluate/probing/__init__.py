"""Whether few latents tell what a context is about, beside what the activations tell as they are: k-sparse probing.

Contexts with labels (`labels.py`), or games of Othello (`board.py`), are split into those that fit and those that measure, no
context on both sides. Labels of whole contexts are probed for in their positions' mean, maximum or last; labels by token in
each position by itself. All choices are made on the contexts that fit: the latents (`probes.most_different`), how far weights
are held down, k of k-NN.

References: Gurnee et al. (2305.01610); SAEBench (2503.09532); Kantamneni et al. (2502.16681), who found that latents do not
beat logistic regression on the activations.
"""

from jaxsae.evaluate.probing.suite import check, evaluate, summary, table

__all__ = ["check", "evaluate", "summary", "table"]
