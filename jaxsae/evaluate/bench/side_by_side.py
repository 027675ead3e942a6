"""All dictionaries on the same held-out sequences: what each leaves of the variance, and what the model loses by it.

Sums are kept for each sequence, so that differences between two dictionaries are paired: their interval is of the
difference on each sequence, in which what makes a sequence hard for all of them cancels. Cross-entropy is against the tokens,
or moves, that come next; KL of the model as it is || with the reconstruction in its place. What several sites are written
counts each site's share of its own variance alike.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxsae.dictionary import Dictionary
from jaxsae.errors import InputError
from jaxsae.evaluate.bench.others import Entry
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.splice_figures import interval, log_softmax
from jaxsae.evaluate.subject import Batch, Subject
from jaxsae.evaluate.summary import LESS
from jaxsae.progress import Progress, say

AT_ONCE = 512  # predictions whose logarithms stand in memory
BASES = ("zero", "mean")
# The figures: what is summed, what it is a share of, and whether it has a better side.
FIGURES = {
    "FVU": ("error", "variance", LESS),
    "L0": ("active", "rows", LESS),
    "KL": ("kl", "asked", LESS),
    "delta CE": ("ce", "asked", LESS),
}


@dataclasses.dataclass(frozen=True)
class Sums:
    """Over each of S sequences.

    Attributes:
      shared: {"variance" | "rows" | "asked": [S]}. own: {name of a dictionary or baseline: {"error" | ...: [S]}}.
    """

    shared: Mapping[str, np.ndarray]
    own: Mapping[str, Mapping[str, np.ndarray]]

    def value(self, name: str, figure: str) -> float | None:
        """A figure of a dictionary."""
        column, share, _ = FIGURES[figure]
        sums = self.own[name].get(column)
        return None if sums is None else float(sums.sum() / self.shared[share].sum())

    def interval(self, name: str, figure: str, less: str = "") -> list[float] | None:
        """Its 95% interval over sequences; with `less`, that of its difference from another dictionary's."""
        column, share, _ = FIGURES[figure]
        sums, other = self.own[name].get(column), self.own[less].get(column) if less else 0.0
        if sums is None or other is None:
            return None
        return interval(sums - other, self.shared[share])


def measure(context: Context, entries: list[Entry], subject: Subject, sequences: int) -> Sums:
    """Runs the model over the first sequences with each dictionary in its place.

    Args:
      context: of the first dictionary. entries: all of them, with that first.

    Raises:
      InputError: a site that the model has not; NaN or Inf there.
    """
    writes = context.writes
    sites = tuple(dict.fromkeys(site for entry in entries for site in (*entry.reads, *writes)))
    parts: list[dict[Any, np.ndarray]] = []
    means = _means(context)
    seen, spliced = 0, {e.name for e in entries if e.dictionary.config.layers == 1}
    for entry in entries:
        if entry.name not in spliced:
            say(
                f"bench: {entry.name} writes {len(writes)} layers, each of what those before it made: see --suite=splice"
            )
    with Progress(min(sequences, subject.sequences), "bench", "sequence") as bar:
        for batch in subject.batches():
            if seen >= sequences:
                break
            rows = subject.read(batch, sites)
            if means is None:
                means = {site: rows[site].mean(0) for site in writes}
            parts.append(_of_a_batch(subject, batch, rows, entries, writes, means, spliced))
            seen += len(batch.tokens)
            bar.advance(len(batch.tokens))
    return _summed(parts, [e.name for e in entries], writes)


def _means(context: Context) -> dict[str, np.ndarray] | None:
    """Means of the store; None where there is none, and those of the first batch do."""
    try:
        widths = context.dictionary.widths.written_sites
        return dict(zip(context.writes, np.split(context.mean, np.cumsum(widths)[:-1]), strict=True))
    except InputError:
        return None


def _of_a_batch(
    subject: Subject,
    batch: Batch,
    rows: Mapping[str, np.ndarray],
    entries: list[Entry],
    writes: tuple[str, ...],
    means: Mapping[str, np.ndarray],
    spliced: set[str],
) -> dict[Any, np.ndarray]:
    """{key: sums over each sequence of the batch}; of rows also their sums and squares at each site."""
    of_row, of_asked = (np.repeat(np.arange(len(at)), at.sum(1)) for at in (batch.kept, batch.asked))
    add = lambda values, of: np.bincount(of, weights=values, minlength=len(batch.tokens))
    out: dict[Any, np.ndarray] = {"rows": batch.kept.sum(1), "asked": batch.asked.sum(1)}
    for site in writes:
        x = np.float64(rows[site])
        out["squares", site] = add(np.square(x).sum(1), of_row)
        out["sums", site] = np.stack([x[of_row == s].sum(0) for s in range(len(batch.tokens))])
    plain, targets = subject.logits(batch, batch.asked), batch.targets[batch.asked]

    def splice(name: str, stand_in: dict[str, np.ndarray]) -> None:
        ce, kl = _compared(plain, subject.logits(batch, batch.asked, stand_in), targets)
        out["ce", name], out["kl", name] = add(ce, of_asked), add(kl, of_asked)

    for entry in entries:
        given, active = reconstructed(
            entry.dictionary, np.concatenate([rows[site] for site in entry.reads], 1), batch.tokens.size
        )
        out["active", entry.name] = add(active, of_row)
        ends = np.cumsum(entry.dictionary.widths.written_sites)[:-1]
        given = dict(zip(entry.writes, np.split(given, ends, 1), strict=True))
        for site in writes:
            out["error", entry.name, site] = add(np.square(np.float64(rows[site]) - given[site]).sum(1), of_row)
        if entry.name in spliced:
            splice(entry.name, {site: given[site] for site in writes})
    count = len(of_row)
    for base in BASES:
        fill = lambda site, base=base: means[site] if base == "mean" else np.zeros(rows[site].shape[1])
        splice(base, {site: np.tile(np.float32(fill(site)), (count, 1)) for site in writes})
    return out


def reconstructed(dictionary: Dictionary, x: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Reconstructions [N, d_out] and numbers of active latents [N] of rows; filled up to `size`, so that one is compiled."""
    whole = np.pad(x, ((0, max(0, size - len(x))), (0, 0)), mode="edge")
    latents = dictionary.encode(whole)
    active = (np.asarray(latents.values) != 0).sum(1)
    return np.asarray(dictionary.decode(latents, whole), np.float32)[: len(x)], active[: len(x)]


def _compared(plain: np.ndarray, spliced: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64 [N] each: what is added to the cross-entropy, and KL(plain || spliced)."""
    ce, kl = np.zeros(len(plain)), np.zeros(len(plain))
    for first in range(0, len(plain), AT_ONCE):
        at = slice(first, first + AT_ONCE)
        p, q = log_softmax(plain[at]), log_softmax(spliced[at])
        ce[at] = np.take_along_axis(p - q, targets[at, None].astype(np.int64), 1)[:, 0]
        kl[at] = (np.exp(p) * (p - q)).sum(1)
    return ce, kl


def _summed(parts: list[dict[Any, np.ndarray]], names: list[str], writes: tuple[str, ...]) -> Sums:
    columns = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    rows = columns["rows"].astype(np.float64)
    variance, errors = np.zeros(len(rows)), {name: np.zeros(len(rows)) for name in (*names, "zero")}
    for site in writes:
        sums, squares = columns["sums", site], columns["squares", site]
        mean = sums.sum(0) / rows.sum()
        of_site = squares - 2 * sums @ mean + rows * (mean @ mean)
        total = of_site.sum()
        if total <= 0:
            raise InputError(
                f"--suite=bench: activations at {site} are all alike on these sequences. Take more of them."
            )
        variance += of_site / total / len(writes)
        errors["zero"] += squares / total / len(writes)
        for name in names:
            errors[name] += columns["error", name, site] / total / len(writes)
    own: dict[str, dict[str, np.ndarray]] = {name: {} for name in (*names, *BASES)}
    for name, sums in errors.items():
        own[name]["error"] = sums
    own["mean"]["error"] = variance
    for key, sums in columns.items():
        if isinstance(key, tuple) and key[0] in ("active", "ce", "kl"):
            own[key[1]][key[0]] = sums
    asked = columns["asked"].astype(np.float64)
    return Sums({"variance": variance, "rows": rows, "asked": asked}, own)
