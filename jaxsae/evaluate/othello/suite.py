"""Whether an Othello model's dictionary holds the board: one latent, one square, and what several latents say together.

Each of 64 squares is empty, mine or theirs, as the player to move sees it: 192 targets, of which those count
that are sometimes true and sometimes false (about 188). A target is found where a single latent tells it
from the rest with an AUROC above 0.9. The same is counted for the activations' own coordinates, their
principal components, the latents of a dictionary trained on a model with random weights, and linear probes;
then for probes of few of these, whole boards, rings of squares, and games that the model plays with the dictionary in it.

References: Li et al. (2210.13382); Nanda et al. (2309.00941); Karvonen et al. (2408.00113).
"""

import dataclasses
import math
from typing import Any

import numpy as np

from jaxsae.dictionary import Dictionary
from jaxsae.errors import InputError
from jaxsae.evaluate import games as play
from jaxsae.evaluate import probe
from jaxsae.evaluate.beside_control import control_context
from jaxsae.evaluate.config import EvaluateConfig
from jaxsae.evaluate.context import Context, check_finite
from jaxsae.evaluate.encoding import encode_rows
from jaxsae.evaluate.othello import few, playing, single, together
from jaxsae.evaluate.othello.rings import chosen_units, rings
from jaxsae.evaluate.othello.targets import board_labels, both_present
from jaxsae.evaluate.text_model import reads_text
from jaxsae.lm.othello import Games
from jaxsae.progress import Progress, say

DEFINITION = (
    "above_0.9 counts the targets whose best single unit has an AUROC above 0.9, best and AUROC on the same rows; "
    "held_out_total chooses the unit on the first half of the games and counts its AUROC on the others. Latents "
    "count with their positive direction, raw and pca units with either. best_auroc and best_latent: empty at squares "
    "0 to 63 (8 * row + column), then mine, then theirs; null and -1 where a state never or always holds."
)
PROBE = "linear_probe"
THIN = 2  # probes of few units are fitted to every second row: neighbouring plies are alike


def check(context: Context) -> None:
    """Raises `InputError` where the dictionary is of no Othello model."""
    if reads_text(context):
        raise InputError(
            f"--suite=othello: is for dictionaries of the Othello GPT, and {context.config.run} is of a language model that "
            "reads text. Leave it out of --suite."
        )


@dataclasses.dataclass(frozen=True)
class Boards:
    """Games and their targets.

    Attributes:
      games, labels: those that are judged, and their targets [N, 192]. fitted, labels_fit: others, that probes are fitted to.
      half: rows of the first half of the games. last: the rows, of the second half, that several units are judged on.
    """

    games: Games
    labels: np.ndarray
    fitted: Games
    labels_fit: np.ndarray
    half: int
    last: slice

    @classmethod
    def of(cls, config: EvaluateConfig, positions: slice) -> "Boards":
        length = positions.stop - positions.start
        games = play.held_out_games(config.games, config.seed, play.BOARD)
        fitted = play.held_out_games(math.ceil(config.probe_rows / length), config.seed, play.PROBE)
        half = len(games) // 2
        judged = min(config.othello.othello_games, len(games) - half)
        last = slice((len(games) - judged) * length, None)
        labels, labels_fit = (board_labels(those, positions) for those in (games, fitted))
        return cls(games, labels, fitted, labels_fit, half * length, last)

    @property
    def judged(self) -> int:
        """How many games `last` holds."""
        return (len(self.labels) - self.last.start) // (len(self.labels) // len(self.games))

    def activations(self, context: Context) -> tuple[np.ndarray, np.ndarray]:
        """[N, d] and [M, d]: what a context's own model has at its site, of the games judged and of those fitted to."""
        size, out = context.config.games_per_batch, []
        for games in (self.games, self.fitted):
            out.append(play.activations(context.model, context.site, games, context.positions, size))
            check_finite(out[-1], f"the model of {context.config.run}, site {context.site}", 0)
        return out[0], out[1]


@dataclasses.dataclass(frozen=True)
class Kind:
    """Units of a kind on the boards.

    Attributes:
      found: what single ones tell. fitted, seen: [every second of M, U] and [rows of `last`, U], of which probes of few are
        made.
    """

    found: single.Found
    fitted: few.Units
    seen: few.Units


def evaluate(context: Context) -> dict[str, Any]:
    """Counts the board's properties that latents hold, beside all baselines, on the same held-out games.

    Returns:
      `targets`, `rows`, `games`, `above_0.9` {empty, mine, theirs, total}, `held_out_total`, `mean_best_auroc`,
      `best_auroc` and `best_latent` [192], `coverage`, `board_f1`, `fvu`, `l0`, `alive`, and `baselines`
      {raw, pca, random_model, linear_probe} with the same where it makes sense; `sparse_probes`, `whole_boards`, `rings`
      and `play`, see `together`, `rings` and `playing`.
    """
    config = context.config
    play.check_plays_othello(context.model)
    control = _control_context(config)  # before the work: it may be refused
    boards = Boards.of(config, context.positions)
    with Progress(6, "othello", "set of units") as bar:
        x, x_fit = boards.activations(context)
        kinds = {"latents": _latents(context.dictionary, x, x_fit, boards, config.batch_size)}
        bar.advance(1)
        _, directions, mean = probe.principal_components(x_fit)
        for name, turn in (("raw", None), ("pca", directions)):
            seen, fitted = (each if turn is None else each @ turn for each in (x, x_fit))
            kinds[name] = Kind(
                single.of_directions(seen, boards.labels, boards.half), fitted[::THIN], seen[boards.last]
            )
            bar.advance(1)
        logits = probe.fit(x_fit, boards.labels_fit).logits(x)
        baselines = {name: kinds[name].found.figures for name in ("raw", "pca")}
        baselines[PROBE] = single.of_probes(logits, boards.labels, boards.half) | {"fitted_rows": len(x_fit)}
        bar.advance(1)
        baselines["random_model"] = None
        if control:
            rows = boards.activations(control)
            kinds["random_model"] = _latents(control.dictionary, *rows, boards, config.batch_size)
            about = {"model": control.dictionary.metadata["model"]}
            baselines["random_model"] = about | kinds["random_model"].found.figures
        bar.advance(1)
        several = _several(config, context.positions.start, boards, kinds, logits[boards.last])
        bar.advance(1)
    head = {"definition": DEFINITION, "targets": int(both_present(boards.labels).sum())}
    head |= {"rows": len(boards.labels), "games": len(boards.games)}
    head["positions"] = [context.positions.start, context.positions.stop - 1]
    found = kinds["latents"].found.figures
    return head | found | {"baselines": baselines} | several | _play(context, directions, mean, found["l0"])


def _latents(dictionary: Dictionary, x: np.ndarray, x_fit: np.ndarray, boards: Boards, batch_size: int) -> Kind:
    found = single.of_dictionary(dictionary, x, boards.labels, boards.half, batch_size)
    return Kind(found, encode_rows(dictionary, x_fit[::THIN], batch_size), found.active[boards.last])


def _several(
    config: EvaluateConfig, first: int, boards: Boards, kinds: dict[str, Kind], logits: np.ndarray
) -> dict[str, Any]:
    """Figures of few units together, of whole boards, and of rings of squares.

    Args:
      first: the first ply. logits: of the linear probe, on the rows `boards.last`.
    """
    labels, games = boards.labels[boards.last], boards.judged
    sizes = config.othello.othello_k
    probes: dict[str, Any] = {
        "k": sizes,
        "games": games,
        "rows": len(labels),
        "fitted_rows": len(boards.labels_fit[::THIN]),
    }
    # The most common state of each square, whatever the model does.
    scores = {"most_common": np.broadcast_to(boards.labels_fit.mean(0), labels.shape)}
    by_ply = {}
    for name, kind in kinds.items():
        probes[name], by_size = together.by_k(kind.fitted, boards.labels_fit[::THIN], kind.seen, labels, games, sizes)
        single_units = kind.found.active[boards.last]
        scores[f"{name}_single"] = together.said_scores(kind.found.precise.says(single_units), boards.labels_fit)
        scores |= {f"{name}_{k}": found for k, found in by_size.items()}
        by_ply[name] = chosen_units(single_units, kind.found.best.chosen)
    probes[PROBE] = together.probe_figures(logits, labels, games)
    scores[PROBE] = by_ply[PROBE] = logits
    best = {name: kind.found.best.auroc for name, kind in kinds.items()}
    best[PROBE] = single.areas(logits, labels)
    whole = together.all_boards(scores, labels, games)
    return {
        "sparse_probes": probes,
        "whole_boards": {"games": games, "rows": len(labels), "by": whole},
        "rings": rings(best, by_ply, labels, games, first),
    }


def _play(context: Context, directions: np.ndarray, mean: np.ndarray, l0: float) -> dict[str, Any]:
    """Games played with the dictionary in its place, and with zeros, the mean, and as many components as L0 says."""
    config, dictionary = context.config, context.dictionary
    count, opening = config.othello.othello_played, config.othello.othello_opening
    if not count:
        return {"play": None}
    kept = directions[:, : max(1, round(l0))]
    stand_ins = {
        "spliced": lambda x: np.asarray(dictionary.reconstruct_all(x)),
        "zero": np.zeros_like,
        "mean": lambda x: np.broadcast_to(mean, x.shape),
        "pca": lambda x: mean + (x - mean) @ kept @ kept.T,
    }
    games = play.held_out_games(count, config.seed, play.PLAYED)
    with Progress(len(stand_ins) + 1, "othello: games played", "stand-in") as bar:
        found = playing.play_all(
            context.model, context.site, stand_ins, games, opening, config.seed, lambda: bar.advance(1)
        )
    return {"play": found | {"components": kept.shape[1]}}


def _control_context(config: EvaluateConfig) -> Context | None:
    """That of `--control_run`, which is missed where none is named."""
    control = control_context(config)
    if control is None:
        say("othello: no --control_run, so the baseline random_model is null (a run on a store of --model=random:SEED)")
        return None
    play.check_plays_othello(control.model)
    return control
