"""One state of contexts to be turned into another, by few latents or few directions, and how far that was done."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import scipy.sparse as sp

from jaxsae.evaluate.causal.contexts import Contexts
from jaxsae.evaluate.effects import divergence


@dataclasses.dataclass(frozen=True)
class Scored:
    """Of each of R contexts: how far a change went, `gain`, of the `whole` way; its `price`, the KL in nats among all other
    tokens, and `spill`, that of later positions; `errors`, where rules say what is right."""

    gain: np.ndarray
    whole: np.ndarray
    price: np.ndarray
    spill: np.ndarray
    errors: np.ndarray | None = None


Score = Callable[[np.ndarray, np.ndarray, np.ndarray], Scored]  # of logits, changed ones, and `spill`


@dataclasses.dataclass(frozen=True)
class Fitted:
    """Rows to which directions are fitted: y [N, d_out], latents [N, n], and which have the state that is wanted."""

    y: np.ndarray
    latents: sp.csr_matrix
    wanted: np.ndarray

    @classmethod
    def of(
        cls, y: Sequence[np.ndarray], latents: Sequence[sp.csr_matrix], wanted: Sequence[np.ndarray], most: int
    ) -> "Fitted":
        """Of parts, `most` rows evenly of all."""
        whole = np.concatenate(y), sp.vstack(list(latents), format="csr"), np.concatenate(wanted)
        some = np.unique(np.linspace(0, len(whole[0]) - 1, min(most, len(whole[0]))).round().astype(int))
        return cls(*(part[some] for part in whole))

    @property
    def means(self) -> tuple[np.ndarray, np.ndarray]:
        """float64 [d_out]: of rows with the other state, and with the wanted one."""
        other, wanted = (self.y[some].mean(0, dtype=np.float64) for some in (~self.wanted, self.wanted))
        return other, wanted

    @property
    def latent_means(self) -> tuple[np.ndarray, np.ndarray]:
        """float64 [n]: of rows with the other state, and with the wanted one."""
        mean = lambda rows: np.asarray(rows.sum(0, dtype=np.float64)).ravel() / max(rows.shape[0], 1)
        return mean(self.latents[~self.wanted]), mean(self.latents[self.wanted])


@dataclasses.dataclass(frozen=True)
class Task:
    """Contexts in which strengths and latents are chosen, `tune`, and others on which they are measured, `test`."""

    tune: Contexts
    tune_score: Score
    test: Contexts
    test_score: Score
    fitted: Fitted


def renormalized(original: np.ndarray, changed: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """float64 [R]: KL(original || changed) among `tokens`, bool [R, vocabulary], each distribution made to sum to 1 there;
    0 where there are none."""
    there = tokens.any(1)
    masked = [np.where(tokens | ~there[:, None], logits, -1e30) for logits in (original, changed)]
    return np.where(there, divergence(*masked), 0)
