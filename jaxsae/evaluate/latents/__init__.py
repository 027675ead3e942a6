"""A dictionary's latents one by one: how often they fire, whether their high activations alone cover tokens and carry the
model, whether their directions lie along axes or outlier dimensions, and what the logit lens says of them."""

import dataclasses
from typing import Any

import numpy as np
import scipy.sparse as sp

from jaxsae.errors import InputError
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.effects import Decoder, Seen, at_sites, seen_batches
from jaxsae.evaluate.latents import basis, counts, cuts, lens, lines, says
from jaxsae.evaluate.run import ARRAYS
from jaxsae.evaluate.subject import GameSubject, Subject, open_subject
from jaxsae.progress import Progress

SUITE = "latents"
_KEY = 0x1A7E


@dataclasses.dataclass
class _Read:
    """All rows of the subject's sequences.

    Attributes:
      latents: [N, n]. sequence: int [N]. right: what is right to predict at each row, as `lens.comes_true` takes it.
      moments: of what is written, by site. stream: sums of the rows, and of their squared lengths, that the unembedding
      reads; None without a lens.
    """

    latents: sp.csr_matrix
    sequence: np.ndarray
    right: np.ndarray
    moments: dict[str, basis.Moments]
    stream: np.ndarray | None


def check(context: Context) -> None:
    """Raises `InputError` where the dictionary has one latent in two models."""
    if context.dictionary.metadata.get("beside"):
        raise InputError(
            f"--suite={SUITE}: {context.config.run} is of two models, and one alone would run. Leave it out."
        )


def evaluate(context: Context) -> dict[str, Any]:
    """Looks at every latent on all held-out sequences, and splices some of them alone in on the first of these.

    Returns:
      `frequency` as `counts.figures`, `coverage` as `cuts.coverage`, `spliced` as `cuts.spliced`, `basis` {site: as
      `basis.figures`}, `lens` as `lens.figures` with `comes_true` and `examples`, or None with `no_lens`, the reason.
      Figures of each latent are in `latents.npz`.
    """
    subject = open_subject(context, SUITE)
    no_lens = lens.refused(context.writes)
    read = _read(context, subject, no_lens is None)
    counted = counts.Counts.of(read.latents, read.sequence)
    low, high = counted.intervals()
    arrays: dict[str, Any] = {"firings": counted.firings, "rows": np.int64(counted.rows), "largest": counted.largest}
    arrays |= {"frequency_low": low, "frequency_high": high, "design_effect": counted.design_effects}
    arrays |= {"mean": counted.sums / np.maximum(counted.firings, 1)}
    mean = np.concatenate([read.moments[site].figures()["mean"] for site in context.writes])
    by_site, of_latents = _basis(context, read.moments)
    found = {
        "frequency": counts.figures(counted),
        "coverage": cuts.coverage(read.latents, counted.largest, read.sequence),
    }
    found |= {"spliced": cuts.spliced(context, subject, counted.largest, mean), "basis": by_site, "no_lens": no_lens}
    if no_lens is None:
        found["lens"], of_lens = _lens(context, subject, read, counted)
        of_latents |= of_lens
    return subject.about | {"unit": subject.unit} | found | {ARRAYS: {SUITE: arrays | of_latents}}


def _read(context: Context, subject: Subject, with_stream: bool) -> _Read:
    moments = {site: basis.Moments(context.config.seed) for site in context.writes}
    latents, sequence, right, stream, squares = [], [], [], 0.0, 0.0
    with Progress(subject.sequences, SUITE, subject.unit) as bar:
        for part in seen_batches(context, subject):
            latents.append(part.latents)
            sequence.append(part.first + np.nonzero(part.batch.kept)[0])
            right.append(_right(subject, part))
            for site, y in at_sites(context, part.y).items():
                moments[site].add(y)
            if with_stream:
                last = subject.read(part.batch, (subject.last_site,))[subject.last_site].astype(np.float64)
                stream, squares = stream + last.sum(0), squares + np.square(last).sum()
            bar.advance(part.sequences)
    where = np.unique(np.concatenate(sequence), return_inverse=True)[1]  # sequences without rows are left out
    rows = len(where)
    mean = lens.stream_of(stream / rows, squares / rows) if with_stream else None
    return _Read(sp.vstack(latents, format="csr"), where, np.concatenate(right), moments, mean)


def _right(subject: Subject, part: Seen) -> np.ndarray:
    batch = part.batch
    if isinstance(subject, GameSubject):
        return subject.played[part.first : part.first + part.sequences].legal_tokens()[batch.kept].astype(bool)
    return np.where(batch.asked, batch.targets, -1)[batch.kept]


def _basis(context: Context, moments: dict[str, basis.Moments]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Of each site that is written, of the latents that write it."""
    found, arrays = {}, {}
    for site, rows in at_sites(context, np.asarray(context.dictionary.params.W_dec, np.float32)).items():
        there = np.flatnonzero(np.linalg.norm(rows, axis=1) > 0)
        if not len(there):
            continue
        found[site], columns = basis.figures(rows[there], moments[site], context.config.seed)
        for each in found[site]["most_aligned"]:
            each["latent"] = int(there[each["latent"]])
        suffix = "" if len(context.writes) == 1 else f"_{site}"
        for name, values in columns.items():
            whole = np.full(len(rows), np.nan if values.dtype.kind == "f" else -1, values.dtype)
            whole[there] = values
            arrays[name + suffix] = whole
    return found, arrays


def _lens(
    context: Context, subject: Subject, read: _Read, counted: counts.Counts
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    config = context.config
    rows = basis.unit(Decoder(context.dictionary).rows).astype(np.float32)
    chosen = np.sort(np.argsort(-counted.firings, kind="stable")[: config.latents.latents_lens])
    rng = np.random.default_rng([config.seed, _KEY])
    others = basis.unit(rng.standard_normal((len(chosen), rows.shape[1]))).astype(np.float32)
    own = lens.Lens(subject, rows[chosen], read.stream, "latents")
    random = lens.Lens(subject, others, read.stream, "random directions")
    most = 1 if subject.games else lens.TOP
    tops = {"latents": own.promoted[:, :most], "random": random.promoted[:, :most]}
    tops["shuffled"] = tops["latents"][rng.permutation(len(chosen))]  # the same tokens, of other latents
    true = lens.comes_true(read.latents[:, chosen], tops, read.right, read.sequence)
    found = lens.figures(own, random) | {
        "comes_true": true | {"tokens": most, "of": "legal" if subject.games else "next"}
    }
    found["examples"] = _examples(subject, own, chosen, counted, config.latents.latents_examples)
    return found, {"lens_latents": chosen} | own.arrays


def _examples(
    subject: Subject, own: lens.Lens, chosen: np.ndarray, counted: counts.Counts, count: int
) -> list[dict[str, Any]]:
    """The latents whose logit weights have the highest kurtosis, of those that fire."""
    order = [i for i in np.argsort(-own.kurtosis, kind="stable") if counted.firings[chosen[i]]][:count]
    words = lambda ids: [subject.word(int(token)) for token in ids[:5]]
    return [
        {
            "latent": int(chosen[i]),
            "frequency": counted.firings[chosen[i]] / counted.rows,
            "kurtosis": own.kurtosis[i],
            "skew": own.skew[i],
            "promoted": words(own.promoted[i]),
            "suppressed": words(own.suppressed[i]),
        }
        for i in order
    ]


summary, table = says.summary, lines.table
