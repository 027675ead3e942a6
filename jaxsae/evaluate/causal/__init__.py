"""What latents do to a model's predictions, by changing them: ablated and clamped, carried from one context to another, and
few of them against few probe directions. What the dictionary leaves out is kept in every change, so that its error is part
of none."""

from typing import Any

import numpy as np

from jaxsae.config import check as check_flag
from jaxsae.errors import InputError
from jaxsae.evaluate.causal import contrast, mediate, paired, pairs, says, single, square
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.effects import Decoder, Seen, at_sites, divergence, seen_batches
from jaxsae.evaluate.run import ARRAYS
from jaxsae.evaluate.subject import GameSubject, Subject, open_subject
from jaxsae.evaluate.subject.text import check_causal
from jaxsae.evaluate.text_model import reads_text
from jaxsae.lm.checkpoint import find
from jaxsae.lm.othello import square_of

SUITE = "causal"


def check(context: Context) -> None:
    """Refuses what cannot be changed or is not there, before the model is read.

    Raises:
      InputError: several sites that are written; latents that there are none of; a square that is none, or of text; a file
        without pairs, with its line; a model that predicts masked tokens.
    """
    config, flags = context.config, context.config.causal
    if len(context.writes) > 1:
        raise InputError(
            f"--suite={SUITE}: {config.run} writes {len(context.writes)} sites, {', '.join(context.writes)}: what a latent "
            "changes at one of them the model undoes, or does twice, at the next. Leave it out of --suite."
        )
    for latent in flags.causal_latents:
        check_flag(
            latent < context.dictionary.width, "causal_latents", latent, f"give 0 to {context.dictionary.width - 1}"
        )
    text = reads_text(context)
    if flags.causal_square:
        fix = f"{config.run} is of a model that reads text: leave the flag out" if text else "give A1 to H8"
        known = not text and square_of(flags.causal_square.strip()) is not None
        check_flag(known, "causal_square", flags.causal_square, fix)
    if flags.causal_pairs:
        pairs.read_file(flags.causal_pairs, games=not text)
    if text and context.attributes.get("settings", {}).get("source") == "hf":
        checkpoint = find(config.model or context.attributes["model"], config.hf)
        if checkpoint.kind == "masked":
            raise InputError(
                f"--model={checkpoint.name}: predicts masked tokens, and --suite={SUITE} is of next ones. Leave it out of "
                "--suite."
            )


def evaluate(context: Context) -> dict[str, Any]:
    """Changes latents one by one, between paired contexts, and as mediators of one state.

    Returns:
      `single`, of each latent as `single.figures`; `put_back_kl`, the largest KL between the model and itself with its own
      activations put back; `pairs` as `paired.figures`; `mediation` as `mediate.figures` with `of` (a square, or the file's
      pairs), or None with `no_mediation`, the reason. Changes of all tokens' logits are in `causal.npz`.
    """
    subject = open_subject(context, SUITE)
    check_causal(subject, SUITE)
    config = context.config
    found_pairs = pairs.open_pairs(context, subject)  # the file's texts may be refused
    parts = list(seen_batches(context, subject, config.causal.causal_sequences))
    base, put_back = _base(context, subject, parts)
    sizes, firings, largest = _sizes(context, parts)
    latents = list(config.causal.causal_latents) or single.chosen(sizes, firings, config.causal.causal_count)
    singles, changes = single.figures(context, subject, parts, base, latents, largest)
    found = {"sequences": sum(part.sequences for part in parts), "rows": sum(len(part.y) for part in parts)}
    found |= {"predictions": sum(int(part.batch.asked.sum()) for part in parts), "put_back_kl": put_back}
    found |= {"single": singles, "pairs": found_pairs and paired.figures(context, found_pairs)}
    del parts, base
    found |= _mediation(context, subject, found_pairs)
    arrays = {"latents": np.array(latents), "token_changes": changes}
    return subject.about | {"unit": subject.unit} | found | {ARRAYS: {SUITE: arrays}}


def _base(context: Context, subject: Subject, parts: list[Seen]) -> tuple[list[np.ndarray], float]:
    """Logits of each batch with its own rows put back, and the largest KL from the untouched model."""
    out, worst = [], 0.0
    for part in parts:
        asked = part.batch.asked
        out.append(subject.logits(part.batch, asked, at_sites(context, part.y)))
        worst = max(worst, float(np.abs(divergence(subject.logits(part.batch, asked), out[-1])).max(initial=0)))
    return out, worst


def _sizes(context: Context, parts: list[Seen]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[n] each: mean |value| times the direction's length, on how many rows it fires, the largest |value|."""
    sums = np.sum([np.asarray(abs(part.latents).sum(0, dtype=np.float64)).ravel() for part in parts], 0)
    firings = np.sum([part.latents.getnnz(0) for part in parts], 0)
    largest = np.max([abs(part.latents).max(0).toarray().ravel() for part in parts], 0)
    return sums * Decoder(context.dictionary).norms, firings, largest


def _mediation(context: Context, subject: Subject, found_pairs: pairs.Pairs | None) -> dict[str, Any]:
    if isinstance(subject, GameSubject):
        task, about = square.open_task(context, subject)
        why = (
            f"only {about['games_with_it']} games have a position in which {about['square']} decides: give more --games"
        )
    else:
        task, about = found_pairs and contrast.open_task(found_pairs), {"pairs": context.config.causal.causal_pairs}
        why = f"give --causal_pairs={{a file of {contrast.FEWEST} pairs or more}} of one contrast"
    if task is None:
        return {"mediation": None, "no_mediation": why}
    return {"mediation": {"of": about} | mediate.figures(context, task)}


summary, table = says.summary, says.table
