"""The suite: data sets, rows, probes and their figures."""

import dataclasses
from typing import Any

import numpy as np

from jaxsae.dictionary import Dictionary
from jaxsae.errors import InputError
from jaxsae.evaluate.baselines import one_thread, random_like
from jaxsae.evaluate.beside_control import control_context
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.probing import board, compare, labels, paired, probes, rows, says, tasks
from jaxsae.evaluate.probing_config import ProbingConfig
from jaxsae.evaluate.subject import Subject, open_subject
from jaxsae.evaluate.text_model import reads_text
from jaxsae.progress import Progress, say

SUITE = "probing"
RANDOM, CONTROL = "random_dictionary", "control"
DEFINITION = (
    "latents_k: logistic regression on the k latents with the largest |difference of class means|, chosen on the contexts "
    "that fit; coordinates_k, random_dictionary_k and control_k: the same of the activation's own coordinates, of latents "
    "along random directions at the same L0, and of the control run; pca_k: the first k principal components; raw, pca_all, "
    "reconstruction: logistic regression on all numbers; knn: nearest neighbours by the raw activation; majority: always the "
    "commoner side. A difference is of latents_k less the other on the same contexts; intervals of 95% are a bootstrap over "
    "the contexts that measure, the same for all probes."
)


def check(context: Context) -> None:
    """Raises `InputError` for labels that are missing or malformed, and for unknown tasks."""
    config, text = context.config.probing, reads_text(context)
    if text and not config.probing_labels:
        raise InputError(
            f"--suite={SUITE}: {context.config.run} is of a language model, whose text has no labels of itself: give a JSONL "
            f"file with --probing_labels, {labels.FORMS} a line."
        )
    if not config.probing_labels:
        for task in config.probing_tasks:
            board.parse_task(task)
        if not config.probing_tasks:
            raise InputError("--probing_tasks= is empty: give some, such as mine:D3,flipped:3, or --probing_labels.")
    wide = [k for k in config.probing_k if k > context.dictionary.width]
    if wide and config.probing_k != ProbingConfig().probing_k:  # the default is cut to what there is
        raise InputError(f"--probing_k={wide[0]}: {context.config.run} has {context.dictionary.width:,} latents.")
    _labelled(context)
    control_context(context.config)


def _labelled(context: Context) -> list[labels.Labelled]:
    """The labelled contexts of all files, read once."""
    config = context.config
    games, some = not reads_text(context), config.probing
    key = SUITE, some.probing_labels, games, some.probing_contexts, config.seed
    if key not in context.shared:
        read = lambda path: labels.read(path, games, some.probing_contexts, config.seed)
        context.shared[key] = [read(path) for path in some.probing_labels]
    return context.shared[key]


def evaluate(context: Context) -> dict[str, Any]:
    """Probes each task with latents and with all baselines.

    Returns:
      `definition`, `constants`, `l0`, `sets`: for each data set and pooling its `contexts` and `rows` {fit, test}, how many
      contexts that measure are `repeated` among those that fit, `tasks` (with `share` of the class among both, what each
      probe `chose`, `probes` {name: {auroc, accuracy, f1: {value, interval}}} and `differences` {latents_k: {baseline: ...}})
      and `mean` over its tasks; `mean` over all tasks by token and in the first pooling.

    Raises:
      InputError: a context without a token, a class that is missing on one side of the split; NaN in the activations.
    """
    subject = open_subject(context, SUITE)
    found = [tasks.of_file(context, subject, one) for one in _labelled(context)] or tasks.of_games(context)
    for one in found:
        for task, y in one.labels.items():
            tasks.check_both(one.name, task, y, one.tests[one.contexts_of_rows()])
        if repeated := one.repeated():
            say(f"{SUITE}: {one.name}: {repeated:,} of the {one.unit}s that measure are also among those that fit.")
    control = control_context(context.config)
    if control is None:
        say(f"{SUITE}: no --control_run, so the baseline {CONTROL} is missing (a run on a model with random weights)")
    dictionaries, head = _dictionaries(context, subject, found[0])
    sets, all_drawn = [], []
    with Progress(sum(len(_pools(context, one)) * len(one.labels) for one in found), SUITE, "task") as bar:
        for one in found:
            for pool, part in _rows(context, subject, control, one, dictionaries).items():
                figures, drawn = _of_set(context, one, pool, part, bar)
                sets.append(figures)
                all_drawn += drawn if pool in (rows.TOKEN, context.config.probing.probing_pool[0]) else []
    whole = compare.figures(compare.mean_of(all_drawn), _ks(context)) | {"tasks": len(all_drawn)}
    return {"definition": DEFINITION, "constants": _constants(context)} | head | {"sets": sets, "mean": whole}


def _ks(context: Context) -> tuple[int, ...]:
    """Of sparse probes, as far as the dictionary, and the activation, has so many."""
    most = min(context.dictionary.width, context.dictionary.d_model)
    return tuple(k for k in sorted(context.config.probing.probing_k) if k <= most) or (most,)


def _constants(context: Context) -> dict[str, Any]:
    some = context.config.probing
    return {
        "k": list(_ks(context)),
        "pool": some.probing_pool[0],
        "chosen_by": some.probing_choose,
        "test_share": some.probing_test,
        "C": list(probes.STRENGTHS),
        "neighbours": list(probes.NEIGHBOURS),
        "folds": probes.FOLDS,
        "draws": paired.DRAWS,
        "seed": context.config.seed,
    }


def _dictionaries(
    context: Context, subject: Subject, one: tasks.DataSet
) -> tuple[dict[str, Dictionary], dict[str, Any]]:
    """The dictionary and a random one of its width and its L0 in the first batch; and that."""
    _, batch = next(rows.batches(context, subject, one.ids))
    x = rows.read_rows(context, subject, batch)
    l0 = rows.encode_rows(context.dictionary, x, context.config.batch_size).nnz / len(x)
    random = random_like(context.dictionary, x.mean(0), l0, context.config.seed)
    return {compare.OWN: context.dictionary, RANDOM: random}, {"l0": l0, "model": subject.name}


def _rows(
    context: Context, subject: Subject, control: Context | None, one: tasks.DataSet, dictionaries: dict[str, Dictionary]
) -> dict[str, rows.Rows]:
    """{pooling: rows}, with the control's latents, of what its own model makes of the same contexts."""
    pools = context.config.probing.probing_pool
    found = rows.gather(context, subject, one.ids, dictionaries, pools, one.chosen)
    if control is None:
        return found
    other = open_subject(control, SUITE)
    if other.vocabulary != subject.vocabulary or other.games != subject.games:
        raise InputError(
            f"--control_run={control.config.run}: its model has {other.vocabulary:,} tokens and {subject.name} "
            f"{subject.vocabulary:,}: give a run on a model that reads the same."
        )
    beside = rows.gather(control, other, one.ids, {CONTROL: control.dictionary}, pools, one.chosen)
    join = lambda own, theirs: dataclasses.replace(own, latents={**own.latents, **theirs.latents})
    return {pool: join(own, beside[pool]) for pool, own in found.items()}


def _of_set(
    context: Context, one: tasks.DataSet, pool: str, part: rows.Rows, bar: Progress
) -> tuple[dict[str, Any], list[dict[str, np.ndarray]]]:
    """The figures of a data set in one pooling, and those of each of its tasks in every draw."""
    config, ks = context.config, _ks(context)
    tests, folds = one.tests[part.context], one.folds(config.seed)[part.context]
    weights = paired.draws(part.context[tests], config.seed)
    standardized = config.probing.probing_choose == "standardized"
    out, all_drawn = [], []
    for task, y in one.labels.items():
        with one_thread():
            said = compare.probed(part, y, tests, folds, ks, standardized)
            drawn = {name: paired.measured(probe, y[tests], weights) for name, probe in said.items()}
        about = {"task": task, "share": {"fit": y[~tests].mean(), "test": y[tests].mean()}}
        about["chose"] = {name: probe.about for name, probe in said.items()}
        out.append(about | compare.figures(drawn, ks))
        all_drawn.append(drawn)
        bar.advance(1, task=task)
    counts = {"fit": int((~one.tests).sum()), "test": int(one.tests.sum())}
    head = {"set": one.name, "unit": one.unit, "pool": pool, "contexts": counts, "repeated": one.repeated()}
    head["rows"] = {"fit": int((~tests).sum()), "test": int(tests.sum())}
    return head | {"tasks": out, "mean": compare.figures(compare.mean_of(all_drawn), ks)}, all_drawn


def _pools(context: Context, one: tasks.DataSet) -> tuple[str, ...]:
    return context.config.probing.probing_pool if one.chosen is None else (rows.TOKEN,)


summary, table = says.summary, says.table
