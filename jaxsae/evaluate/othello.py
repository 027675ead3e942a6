"""Whether single latents of an Othello model's dictionary hold the board: one latent, one square.

Each of 64 squares is empty, mine or theirs, as the player to move sees it: 192 targets, of which those count
that are sometimes true and sometimes false (about 188). A target is found where a single latent tells it
from the rest with an AUROC above 0.9. The same is counted for the activations' own coordinates, their
principal components, the latents of a dictionary trained on a model with random weights, and linear probes.

References: Li et al. (2210.13382); Nanda et al. (2309.00941); Karvonen et al. (2408.00113).
"""

import dataclasses
import math
from typing import Any

import numpy as np
import scipy.sparse as sp

from jaxsae.dictionary import Dictionary
from jaxsae.errors import InputError
from jaxsae.evaluate import games as play
from jaxsae.evaluate import probe, says
from jaxsae.evaluate.auroc import active_matrix, auroc, best_units
from jaxsae.evaluate.config import EvaluateConfig
from jaxsae.evaluate.context import Context, load_dictionary
from jaxsae.evaluate.coverage import board_f1, both_halves, coverage, f1_of_boards
from jaxsae.evaluate.errors_of_rows import Errors
from jaxsae.evaluate.run import number
from jaxsae.evaluate.text_model import reads_text
from jaxsae.lm.othello import Games, bits
from jaxsae.lm.weights import RANDOM
from jaxsae.progress import Progress, say

STATES = ("empty", "mine", "theirs")
FOUND = 0.9
DEFINITION = (
    "above_0.9 counts the targets whose best single unit has an AUROC above 0.9, best and AUROC on the same rows; "
    "held_out_total chooses the unit on the first half of the games and counts its AUROC on the others. Latents "
    "count with their positive direction, raw and pca units with either. best_auroc and best_latent: empty at squares "
    "0 to 63 (8 * row + column), then mine, then theirs; null and -1 where a state never or always holds."
)


def check(context: Context) -> None:
    """Raises `InputError` where the dictionary is of no Othello model."""
    if reads_text(context):
        raise InputError(
            f"--suite=othello: is for dictionaries of the Othello GPT, and {context.config.run} is of a language model that "
            "reads text. Leave it out of --suite."
        )


def evaluate(context: Context) -> dict[str, Any]:
    """Counts the board's properties that single latents hold, beside all baselines, on the same held-out games.

    Returns:
      `targets`, `rows`, `games`, `above_0.9` {empty, mine, theirs, total}, `held_out_total`, `mean_best_auroc`,
      `best_auroc` and `best_latent` [192], `coverage`, `board_f1`, `fvu`, `l0`, `alive`, and `baselines`
      {raw, pca, random_model, linear_probe} with the same where it makes sense.
    """
    config, model = context.config, context.model
    play.check_plays_othello(model)
    control = _control_context(config)  # before the work: it may be refused
    games = play.held_out_games(config.games, config.seed, play.BOARD)
    labels = board_labels(games, context.positions)
    half = len(games) // 2 * (len(labels) // len(games))
    x = play.activations(model, context.site, games, context.positions, config.games_per_batch)
    with Progress(5, "othello", "set of units") as bar:
        found = dictionary_figures(context.dictionary, x, labels, half, config.batch_size)
        bar.advance(1)
        baselines = _linear_baselines(context, x, labels, half, bar)
        baselines["random_model"] = _control(control, games, context.positions, labels, half)
        bar.advance(1)
    head = {"definition": DEFINITION, "targets": int(both_present(labels).sum())}
    head |= {"rows": len(labels), "games": len(games)}
    head["positions"] = [context.positions.start, context.positions.stop - 1]
    return head | found | {"baselines": baselines}


def board_labels(games: Games, positions: slice) -> np.ndarray:
    """bool [G * P, 192], game after game: square by square whether it is empty, then mine, then theirs."""
    mine, theirs = (bits(masks[:, positions]).astype(bool) for masks in (games.own, games.opponent))
    return np.concatenate([~(mine | theirs), mine, theirs], -1).reshape(-1, 192)


def both_present(labels_NxT: np.ndarray) -> np.ndarray:
    """bool [T]: targets that hold on some rows and not on others."""
    return labels_NxT.any(0) & ~labels_NxT.all(0)


def count_found(best_T: np.ndarray, held_out_T: np.ndarray) -> dict[str, Any]:
    """Targets found, by state and in all, and the mean AUROC, NaN left out."""
    by_state = {state: int((part > FOUND).sum()) for state, part in zip(STATES, np.split(best_T, 3), strict=True)}
    return {
        "above_0.9": by_state | {"total": sum(by_state.values())},
        "held_out_total": int((held_out_T > FOUND).sum()),
        "mean_best_auroc": mean_of_defined(best_T),
        "best_auroc": best_T,
    }


def mean_of_defined(values: np.ndarray) -> float | None:
    """The mean of what is not NaN, None where all is."""
    return None if np.isnan(values).all() else float(np.nanmean(values))


def dictionary_figures(
    dictionary: Dictionary, x_NxD: np.ndarray, labels_NxT: np.ndarray, half: int, batch_size: int
) -> dict[str, Any]:
    """All figures of a dictionary's latents on activations x."""
    active, errors = encode_all(dictionary, x_NxD, batch_size)
    best = best_units(active, labels_NxT, half)
    out = count_found(best.auroc, best.held_out) | {"best_latent": best.unit}
    out |= _board_figures(active, labels_NxT, half)
    alive = len(np.unique(active.indices))
    return out | {"fvu": errors.figures()["fvu"], "l0": active.nnz / len(x_NxD), "alive": alive}


def encode_all(dictionary: Dictionary, x_NxD: np.ndarray, batch_size: int) -> tuple[sp.csr_matrix, Errors]:
    """Active latents [N, n], sparse, and the sums of the reconstruction."""
    parts, errors = [], Errors(np.mean(x_NxD, 0, dtype=np.float64))
    for start in range(0, len(x_NxD), batch_size):
        x = x_NxD[start : start + batch_size]
        latents = dictionary.encode(x)
        errors.add(x, np.asarray(dictionary.decode(latents)))
        parts.append(active_matrix(np.asarray(latents.values), np.asarray(latents.indices), dictionary.width))
    return sp.vstack(parts, format="csr"), errors


def _board_figures(active: sp.csr_matrix, labels_NxT: np.ndarray, half: int) -> dict[str, Any]:
    defined = both_present(labels_NxT)
    f1 = np.where(defined, coverage(active, labels_NxT), np.nan)
    return {"coverage": mean_of_defined(f1)} | board_f1(active, labels_NxT, half)


def _linear_baselines(context: Context, x: np.ndarray, labels: np.ndarray, half: int, bar: Progress) -> dict[str, Any]:
    """Coordinates, principal components and probes; the last two are fitted to other games."""
    config, positions = context.config, context.positions
    count = math.ceil(config.probe_rows / (positions.stop - positions.start))
    games = play.held_out_games(count, config.seed, play.PROBE)
    x_fit = play.activations(context.model, context.site, games, positions, config.games_per_batch)
    labels_fit = board_labels(games, positions)
    _, directions, _ = probe.principal_components(x_fit)
    out = {}
    for name, units in (("raw", x), ("pca", x @ directions)):
        best = best_units(units, labels, half, signed=True)
        out[name] = count_found(best.auroc, best.held_out) | _board_figures(both_halves(units), labels, half)
        bar.advance(1)
    out["linear_probe"] = probe_figures(probe.fit(x_fit, labels_fit).logits(x), labels, half)
    out["linear_probe"]["fitted_rows"] = len(x_fit)
    bar.advance(1)
    return out


def probe_figures(logits_NxT: np.ndarray, labels_NxT: np.ndarray, half: int) -> dict[str, Any]:
    """Figures of one probe for each target; a probe says that its target holds where its logit is above 0."""
    own = np.array([auroc(logits_NxT[:, [t]], labels_NxT[:, [t]])[0, 0] for t in range(logits_NxT.shape[1])])
    said = logits_NxT > 0
    hits, sizes = (said & labels_NxT).sum(0), said.sum(0) + labels_NxT.sum(0)
    f1 = np.where(both_present(labels_NxT), 2 * hits / np.maximum(sizes, 1), np.nan)
    # Fitted to other games, so that the same rows are held out already.
    return count_found(own, own) | {"coverage": mean_of_defined(f1)} | f1_of_boards(said[half:], labels_NxT[half:])


def _control_context(config: EvaluateConfig) -> Context | None:
    """The dictionary of `--control_run` with its own model and site."""
    if not config.control_run:
        say("othello: no --control_run, so the baseline random_model is null (a run on a store of --model=random:SEED)")
        return None
    dictionary = load_dictionary(config.control_run, config.mesh, flag="control_run")
    source = dictionary.metadata.get("model", "")
    if not source.startswith(RANDOM):
        raise InputError(
            f"--control_run={config.control_run} belongs to model {source!r}: give a run on random weights"
        )
    control = Context(dataclasses.replace(config, run=config.control_run, store="", site="", model=""), dictionary)
    play.check_plays_othello(control.model)
    return control


def _control(
    control: Context | None, games: Games, positions: slice, labels: np.ndarray, half: int
) -> dict[str, Any] | None:
    """The same figures of the control's latents on the same games, which it sees through its own model."""
    if control is None:
        return None
    config, dictionary = control.config, control.dictionary
    x = play.activations(control.model, control.site, games, positions, config.games_per_batch)
    return {"model": dictionary.metadata["model"]} | dictionary_figures(dictionary, x, labels, half, config.batch_size)


summary = says.othello


def table(results: dict[str, Any]) -> list[str]:
    """The figures in a few lines."""
    lines = [f"{results['targets']} targets, {results['rows']:,} positions of {results['games']} games"]
    for name, figures in [("latents", results), *results["baselines"].items()]:
        if figures is None:
            lines.append(f"{name:<13} not measured")
            continue
        count = figures["above_0.9"]
        by_state = ", ".join(f"{state} {count[state]}" for state in STATES)
        fvu = f"   fvu {number(figures['fvu'])}" if "fvu" in figures else ""
        lines.append(
            f"{name:<13} above 0.9: {count['total']:>3} ({by_state}; held out {figures['held_out_total']})   "
            f"mean best {number(figures['mean_best_auroc'])}   coverage {number(figures['coverage'])}   "
            f"board F1 {number(figures['board_f1'])}{fvu}"
        )
    return lines
