"""The contrast of a file's pairs of contexts as a state that few latents, or few directions, are to turn: from a to b."""

import numpy as np

from jaxsae.evaluate.causal.contexts import Contexts
from jaxsae.evaluate.causal.pairs import Pairs
from jaxsae.evaluate.causal.task import Fitted, Score, Scored, Task, renormalized
from jaxsae.evaluate.effects import divergence

FEWEST = 16  # pairs below which nothing is fitted


def open_task(pairs: Pairs) -> Task | None:
    """Fitted to the even pairs and measured on the odd ones: the share of KL(p_b || p_a) that a change of a takes away, and
    as its price the KL among all tokens but the foremost of a and of b. None of made pairs, whose changes have nothing in
    common, and of few."""
    if not pairs.given or len(pairs.a) < FEWEST:
        return None
    even = np.arange(len(pairs.a)) % 2 == 0
    (a, b), (a_test, b_test) = ((pairs.a.pick(some), pairs.b.pick(some)) for some in (even, ~even))
    wanted = np.repeat([False, True], len(a))
    fitted = Fitted.of([a.y, b.y], [a.latents, b.latents], [wanted], 2 * len(a))
    return Task(a, _score(b), a_test, _score(b_test), fitted)


def _score(b: Contexts) -> Score:
    def score(original: np.ndarray, changed: np.ndarray, spill: np.ndarray) -> Scored:
        whole = divergence(b.logits, original)
        others = np.ones(original.shape, bool)
        for logits in (original, b.logits):
            others[np.arange(len(others)), logits.argmax(1)] = False
        price = renormalized(original, changed, others)
        return Scored(whole - divergence(b.logits, changed), whole, price, spill)

    return score
