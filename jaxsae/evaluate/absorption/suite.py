"""The suite: words or boards, the dictionary and what it stands beside, figures."""

from collections.abc import Sequence
from typing import Any

from jaxsae.errors import InputError
from jaxsae.evaluate.absorption import says, squares, words
from jaxsae.evaluate.absorption.parents import CANDIDATES, L1
from jaxsae.evaluate.absorption.score import DRAWS, FEWEST, measure, probes_of
from jaxsae.evaluate.absorption.seen import Seen
from jaxsae.evaluate.baselines import random_like
from jaxsae.evaluate.beside_control import control_context
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.subject import GameSubject, Subject, open_subject
from jaxsae.evaluate.subject.text import check_causal
from jaxsae.evaluate.text_model import reads_text
from jaxsae.progress import say

SUITE = "absorption"


def check(context: Context) -> None:
    """Raises `InputError` where the control cannot be opened, or reads something else."""
    control = control_context(context.config)
    if control is not None and reads_text(control) != reads_text(context):
        what = "text" if reads_text(context) else "games"
        raise InputError(
            f"--control_run={context.config.control_run}: is of a model that does not read {what}, as this one."
        )


def evaluate(context: Context) -> dict[str, Any]:
    """Measures absorption of first letters, or of squares' states.

    Returns:
      `task` ("first letters" or "board"), `constants`, `origin` (of the projections that the figures at the head are of),
      `rows` {fit, judge}, `parents` (how many were asked), `counted`, `score`, `rate`, `fraction`, `silent` {value,
      interval}, `main_latents`; `by_origin` the same for either origin, and without the rule for main latents; `l0`;
      `baselines` {random_dictionary, control} with the same; `by_parent`.

    Raises:
      InputError: too few words; NaN in the activations.
    """
    subject = open_subject(context, SUITE)
    check_causal(subject, SUITE)
    origin = "b_dec" if subject.games else "zero"
    names, fit, judged, about = _read(context, subject)
    size, dictionary = context.config.batch_size, context.dictionary
    parts = fit.encoded(dictionary, size), judged.encoded(dictionary, size)
    probes = probes_of(*parts, names)
    by_parent, own = measure(dictionary, *parts, names, probes, context.config)
    l0 = parts[1].latents.nnz / len(judged.read)
    baselines: dict[str, Any] = {"random_dictionary": None, "control": None}
    if not dictionary.config.transcode:  # of random directions that write another site nothing is known
        random = random_like(dictionary, fit.read.mean(0), l0, context.config.seed)
        both = fit.encoded(random, size), judged.encoded(random, size)
        baselines["random_dictionary"] = measure(random, *both, names, probes, context.config)[1][origin]
    if (control := control_context(context.config)) is not None:
        baselines["control"] = {"model": control.dictionary.metadata.get("model")} | _of_control(control, origin)
    else:
        say(f"{SUITE}: no --control_run, so the baseline control is null (a run on a model with random weights)")
    head = {"task": "board" if subject.games else "first letters", "model": subject.name, "origin": origin, "l0": l0}
    head |= {"constants": _constants(context, subject.games)} | about
    head |= {"rows": {"fit": len(fit.read), "judge": len(judged.read)}, "asked": len(names)}
    return head | own[origin] | {"by_origin": own, "baselines": baselines, "by_parent": by_parent}


def _read(context: Context, subject: Subject) -> tuple[Sequence[str], Seen, Seen, dict[str, Any]]:
    """Names of the parents, rows that fit, rows that judge, and how many games or words they are."""
    if isinstance(subject, GameSubject):
        fit, judged = squares.read_boards(context, subject)
        names = [squares.name(*parent) for parent in squares.parents(context)]
        games = {part: len(set(seen.cluster.tolist())) for part, seen in (("fit", fit), ("judge", judged))}
        return names, fit, judged, {"games": games}
    fit_words, judge_words, known = words.vocabulary(context, subject)
    fit, judged = (words.read_words(context, subject, own, i) for i, own in enumerate((fit_words, judge_words)))
    return words.LETTERS, fit, judged, {"words": {"tokenizer": known, "fit": len(fit.read), "judge": len(judged.read)}}


def _of_control(control: Context, origin: str) -> dict[str, Any]:
    """The figures of the control's latents, by probes of its own model."""
    names, fit, judged, _ = _read(control, open_subject(control, SUITE))
    size = control.config.batch_size
    parts = fit.encoded(control.dictionary, size), judged.encoded(control.dictionary, size)
    return measure(control.dictionary, *parts, names, probes_of(*parts, names), control.config)[1][origin]


def _constants(context: Context, games: bool) -> dict[str, Any]:
    some = context.config.absorption
    out = {
        "prompt": None if games else words.TEMPLATE,
        "examples": None if games else some.absorption_examples,
        "test_share": squares.TEST_SHARE if games else words.TEST_SHARE,
        "probe_f1": some.absorption_probe_f1,
        "main_gain": some.absorption_main_gain,
        "k": some.absorption_k,
        "f1_jump": some.absorption_f1_jump,
        "l1": L1,
        "candidates": CANDIDATES,
        "cosine": some.absorption_cosine,
        "share": some.absorption_share,
        "part_cosine": some.absorption_part_cosine,
        "part_latents": some.absorption_part_latents,
        "fewest": FEWEST,
        "draws": DRAWS,
        "seed": context.config.seed,
    }
    return {name: value for name, value in out.items() if value is not None}


summary, table = says.summary, says.table
