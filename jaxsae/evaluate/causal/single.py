"""Single latents ablated and clamped, with the dictionary's error kept: x' = x + (g - f_i) W_dec,i.

f_i is the latent's value, g what it is set to: 0 ablates it. Beside it, steps of the same length at the same positions along
a random direction, along another latent's, and along the difference of the means of rows on which it fires and of others.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxsae.evaluate.context import Context
from jaxsae.evaluate.effects import Decoder, Seen, at_sites, cross_entropy, divergence
from jaxsae.evaluate.splice_figures import interval, log_softmax
from jaxsae.evaluate.subject import Subject
from jaxsae.progress import Progress

STRENGTHS = (0.5, 1.0, 2.0)  # of the latent's largest value
ABLATIONS = ("latent", "other_latent", "mean_difference", "random_direction")
TOKENS = 5  # listed
FEWEST = 10  # firings of a latent that is chosen for the spread
_KEY = 0x51D6


def chosen(sizes: np.ndarray, firings: np.ndarray, count: int) -> list[int]:
    """Latents to look at: half with the largest `sizes` [n], mean activations times lengths, half spread over the others."""
    order = [int(i) for i in np.argsort(-sizes, kind="stable") if firings[i] > 0]
    most, rest = order[: count - count // 2], [i for i in order[count - count // 2 :] if firings[i] >= FEWEST]
    at = np.linspace(0, len(rest) - 1, min(count // 2, len(rest))) if rest else []
    return most + [rest[round(i)] for i in at]


class _Sums:
    """Of one change, over sequences: all predictions and those of rows on which the latent fires; changes of tokens'
    logits there, apart for even and odd sequences, so that a token is chosen on some and measured on others."""

    def __init__(self, vocabulary: int):
        self.kl, self.kl_there, self.there, self.ce = [], [], [], []
        self.logits, self.logs, self.rows = np.zeros((2, vocabulary)), np.zeros((2, vocabulary)), np.zeros(2)

    def add(self, part: Seen, fires: np.ndarray, original: np.ndarray, changed: np.ndarray) -> None:
        """`fires` bool [asked]; logits [asked, vocabulary]."""
        kl = divergence(original, changed)
        self.kl.append(part.by_sequence(kl))
        self.kl_there.append(part.by_sequence(kl * fires))
        self.there.append(part.by_sequence(fires))
        self.ce.append(part.by_sequence(cross_entropy(changed, part.target) - cross_entropy(original, part.target)))
        odd = (part.first + np.nonzero(part.batch.asked)[0]) % 2
        for side in (0, 1):
            some = np.flatnonzero(fires & (odd == side))
            for first in range(0, len(some), 512):
                at = some[first : first + 512]
                self.logits[side] += (changed[at].astype(np.float64) - original[at]).sum(0)
                self.logs[side] += (log_softmax(changed[at]) - log_softmax(original[at])).sum(0)
            self.rows[side] += len(some)

    def figures(self, counts: np.ndarray) -> dict[str, Any]:
        """Means over predictions, with intervals over sequences; `effect`: by how much the log-probability rises, on odd
        sequences, of the token whose rises most on even ones."""
        kl, kl_there, there, ce = (np.concatenate(x) for x in (self.kl, self.kl_there, self.there, self.ce))
        token = int((self.logs[0] / max(self.rows[0], 1)).argmax())
        some = there > 0
        return {
            "kl": kl.sum() / counts.sum(),
            "kl_interval": interval(kl, counts),
            "kl_where_it_fires": kl_there.sum() / there.sum() if there.sum() else None,
            "kl_where_it_fires_interval": interval(kl_there[some], there[some]) if some.any() else None,
            "delta_ce": ce.sum() / counts.sum(),
            "delta_ce_interval": interval(ce, counts),
            "token": token,
            "effect": self.logs[1, token] / self.rows[1] if self.rows[1] else None,
        }

    @property
    def token_changes(self) -> np.ndarray:
        """[vocabulary]: mean changes of logits where it fires."""
        return self.logits.sum(0) / max(self.rows.sum(), 1)


def figures(
    context: Context,
    subject: Subject,
    parts: list[Seen],
    base: list[np.ndarray],
    latents: list[int],
    largest: np.ndarray,
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Of each of `latents` on batches whose logits with their own rows put back are `base`; largest: [n].

    Returns:
      {latent, frequency, largest, ablated {way: figures}, clamped [{strength, latent: figures, random_direction: figures}],
      raised, lowered [[word, mean change of logit]] by ablation}; and float32 [latents, vocabulary], all those changes.
    """
    decoder, counts = Decoder(context.dictionary), np.concatenate([part.batch.asked.sum(1) for part in parts])
    fired = np.sum([part.latents.getnnz(0) for part in parts], 0)
    rng, out, changes = np.random.default_rng([context.config.seed, _KEY]), [], []
    with Progress(len(latents), "causal", "latent") as bar:
        for latent in latents:
            directions = _directions(decoder, parts, latent, fired, rng)
            sums: dict[Any, _Sums] = {}
            for part, original in zip(parts, base, strict=True):
                f = part.latents[:, [latent]].toarray().ravel()
                fires = _asked(part, f != 0)
                for key, delta in _changes(f, directions, float(largest[latent])):
                    to = sums.setdefault(key, _Sums(subject.vocabulary))
                    if delta.any():
                        found = subject.logits(part.batch, part.batch.asked, at_sites(context, part.y + delta))
                    else:
                        found = original
                    to.add(part, fires, original, found)
            told = {key: each.figures(counts) for key, each in sums.items()}
            change = sums["ablated", "latent"].token_changes
            rows = sum(part.latents.shape[0] for part in parts)
            out.append(
                {
                    "latent": latent,
                    "frequency": fired[latent] / rows,
                    "largest": largest[latent],
                    "ablated": {way: told["ablated", way] for way in ABLATIONS},
                    "clamped": [
                        {"strength": c, "latent": told[c, "latent"], "random_direction": told[c, "random_direction"]}
                        for c in STRENGTHS
                    ],
                    "raised": [
                        [subject.word(int(t)), change[t]] for t in np.argsort(-change)[:TOKENS] if change[t] > 0
                    ],
                    "lowered": [
                        [subject.word(int(t)), change[t]] for t in np.argsort(change)[:TOKENS] if change[t] < 0
                    ],
                }
            )
            changes.append(change.astype(np.float32))
            bar.advance(1)
    return out, np.stack(changes)


def _directions(
    decoder: Decoder, parts: list[Seen], latent: int, fired: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """{way: float32 [d_out]}, all as long as the latent's own."""
    own = decoder.rows[latent]
    alive = np.setdiff1d(np.flatnonzero(fired), [latent])
    other = decoder.rows[rng.choice(alive)] if len(alive) else np.zeros_like(own)
    sums, rows = np.zeros((2, len(own))), np.zeros(2)
    for part in parts:
        fires = part.latents[:, [latent]].toarray().ravel() != 0
        for side, some in enumerate((~fires, fires)):
            sums[side] += part.y[some].sum(0, dtype=np.float64)
            rows[side] += some.sum()
    means = sums / np.maximum(rows, 1)[:, None]
    difference = means[1] - means[0] if rows.all() else np.zeros(len(own))
    drawn = {"other_latent": other, "mean_difference": difference, "random_direction": rng.standard_normal(len(own))}
    length = np.linalg.norm(own)
    scaled = {name: np.float32(v * length / max(np.linalg.norm(v), 1e-30)) for name, v in drawn.items()}
    return {"latent": own} | scaled


def _changes(f: np.ndarray, directions: dict[str, np.ndarray], largest: float) -> Iterator[tuple[Any, np.ndarray]]:
    """(what, what is added to rows of which the latent has values f [rows])."""
    for way in ABLATIONS:
        yield ("ablated", way), -f[:, None] * directions[way]
    for strength in STRENGTHS:
        step = (np.float32(strength * largest) - f)[:, None]
        for way in ("latent", "random_direction"):
            yield (strength, way), step * directions[way]


def _asked(part: Seen, rows: np.ndarray) -> np.ndarray:
    """bool [asked] of bool [positions kept]: those of them that are asked, False where a position is not kept."""
    whole = np.zeros(part.batch.kept.shape, bool)
    whole[part.batch.kept] = rows
    return whole[part.batch.asked]
