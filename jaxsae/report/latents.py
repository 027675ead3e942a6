"""The latents that a page shows: which, what they are called, and where they fire."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from jaxsae.dashboard.build import record_of
from jaxsae.dashboard.games import plays_othello
from jaxsae.dashboard.open import encoded_rows, open_source
from jaxsae.dashboard.record import Record
from jaxsae.dashboard.settings import Settings
from jaxsae.dictionary import Dictionary
from jaxsae.evaluate.context import Context
from jaxsae.lm.othello import bits, square_of
from jaxsae.report.boards import STATES, move_names, position_board, target_name

WORTH_A_LABEL = 0.7  # AUROC below which a latent says too little about its best target to be named by it
MOVES_SHOWN = 6  # of a game, up to the one that a latent fires on
BEFORE, AFTER = 12, 4  # tokens shown around the one that a latent fires on


@dataclasses.dataclass(frozen=True)
class Example:
    """One place where a latent fires: `board` in a game, `tokens` (text, whether it is the one) elsewhere."""

    activation: str
    caption: str
    board: Markup | None = None
    tokens: list[tuple[str, bool]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class LatentCard:
    """A latent with its label, figures and examples."""

    latent: int
    label: str
    figures: str
    examples: list[Example]


def strongest_targets(othello: Mapping[str, Any], count: int) -> dict[int, int]:
    """{latent: target} of the latents with the largest AUROC, the states in turn, each latent once."""
    auroc, latents = othello.get("best_auroc") or [], othello.get("best_latent") or []
    by_state: dict[int, list[int]] = {state: [] for state in range(len(STATES))}
    for target in sorted(range(len(auroc)), key=lambda t: -(auroc[t] or 0)):
        if (auroc[target] or 0) >= WORTH_A_LABEL and latents[target] is not None and latents[target] >= 0:
            by_state[target // 64].append(target)
    chosen: dict[int, int] = {}
    while len(chosen) < count and any(by_state.values()):
        for targets in by_state.values():
            while targets and latents[targets[0]] in chosen:
                targets.pop(0)
            if targets and len(chosen) < count:
                target = targets.pop(0)
                chosen[int(latents[target])] = target
    return chosen


def cards(context: Context, results: Mapping[str, Any], shown: int, settings: Settings) -> list[LatentCard]:
    """Cards for live latents drawn at random; of an Othello model half of them for the strongest board targets.

    Args:
      results: of the suite `othello`. settings: how much is searched, and `top`, places of each.
    """
    board = plays_othello(context.dictionary.metadata)
    around = (MOVES_SHOWN - 1, 0) if board else (BEFORE, AFTER)
    settings = dataclasses.replace(settings, per_band=0, parts=False, before=around[0], after=around[1])
    source = open_source(context, settings)
    latents = encoded_rows(context, source)
    named = strongest_targets(results, shown // 2) if board else {}
    chosen = _chooser(list(named), shown, settings.seed)(np.flatnonzero(np.diff(latents.indptr)))
    record = record_of(context, settings, source, {"": latents}, shown=np.sort(chosen))
    figures = _figures(Path(context.config.run))
    out = []
    for latent in chosen:
        target = named.get(latent)
        label = "drawn at random"
        if target is not None:
            found = int(results["best_auroc"][target] * 1000) / 1000  # never rounded up to 1, as on the board
            label = f"{target_name(target)}, AUROC {found:.3f}"
        places = record.contexts(int(np.searchsorted(record.shown, latent)))
        examples = [_board_example(record, i, latent, target) if board else _text_example(record, i) for i in places]
        out.append(LatentCard(latent, label, figures(latent), examples))
    return out


def _chooser(first: list[int], count: int, seed: int) -> Callable[[np.ndarray], list[int]]:
    """Live latents -> `first`, then others at random up to `count`."""

    def choose(live: np.ndarray) -> list[int]:
        rest = np.setdiff1d(live, first)
        drawn = np.random.default_rng(seed).permutation(rest)[: max(count - len(first), 0)]
        return first + sorted(int(latent) for latent in drawn)

    return choose


def _figures(run: Path) -> Callable[[int], str]:
    """latent -> how often and how strongly it fires, where eval/frequencies.npz says so."""
    path = run / "eval" / "frequencies.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            frequency, mean = file["frequency"], file["mean_active"]
    except (OSError, KeyError, ValueError):
        return lambda latent: ""

    def text(latent: int) -> str:
        if latent >= len(frequency):
            return ""
        return f"active on {100 * frequency[latent]:.3g}% of rows, mean {mean[latent]:.3g} where active"

    return text


def _board_example(record: Record, context: int, latent: int, target: int | None) -> Example:
    at, number = int(record.at[context]), int(record.position[context]) + 1
    activation = f"{record.values[context, at]:.3g}"
    moves = move_names(record.tokens[context, : at + 1].tolist())
    shown = [(name, i == len(moves) - 1) for i, name in enumerate(moves)]
    description = f"Latent {latent} at {activation} after move {number}, {moves[-1]}"
    square = None if target is None else target % 64
    last = square_of(moves[-1])
    mine, theirs = (bits(masks[context : context + 1])[0].astype(bool) for masks in (record.mine, record.theirs))
    board = position_board(mine, theirs, last, square, description)
    tokens = ([("\N{HORIZONTAL ELLIPSIS}", False)] if number > len(moves) else []) + shown
    return Example(activation, f"move {number}", board, tokens)


def _text_example(record: Record, context: int) -> Example:
    at, tokens = int(record.at[context]), record.tokens[context]
    shown = [(record.words.get(t, f" {t}"), i == at) for i, t in enumerate(tokens[tokens >= 0].tolist())]
    caption = f"sequence {record.sequence[context]}, position {record.position[context]}"
    return Example(f"{record.values[context, at]:.3g}", caption, None, shown)


def load_dictionary(run: Path) -> Dictionary:
    """The run's dictionary."""
    from jaxsae.training import load  # the trainer's imports are heavy

    return load(run)
