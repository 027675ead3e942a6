"""Whether a latent goes silent where a narrower one says its part: feature absorption, with the constants beside the score.

Of any model with a tokenizer the parents are first letters (`words.py`), of the Othello GPT states of squares (`squares.py`).
For each parent: a probe on the activations; the main latents, by a k-sparse probe (`parents.py`); then, of rows on which
the parent holds and the probe says so, whether a main latent fires, and if not, whether another latent carries the probe's
direction (`judge.py`).

  score = absorbed / (absorbed + main), by parent, and the mean over parents;
  rate = absorbed / rows on which the probe is right, SAEBench's "full absorption"; fraction: its mean absorption fraction.

Where SAEBench reads projections from zero, x . p, the bias that a decoder adds to every row counts as a part of the
projection; both are given, from zero (of first letters at the head, as there) and from b_dec, what the latents
have to explain (of the board at the head, where the mean activation is longer than what varies about it).

References: Chanin et al. (2409.14507); SAEBench (2503.09532), its evals/absorption.
"""

from jaxsae.evaluate.absorption.suite import check, evaluate, summary, table

__all__ = ["check", "evaluate", "summary", "table"]
