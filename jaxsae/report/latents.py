"""The latents that a page shows: which, what they are called, and where they fire."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from jaxsae.dictionary import Dictionary
from jaxsae.evaluate.context import Context
from jaxsae.report.boards import STATES, move_names, position_board, target_name
from jaxsae.report.contexts import BATCH, BoardPlace, Place, live_latents, othello_contexts, top_contexts

WORTH_A_LABEL = 0.7  # AUROC below which a latent says too little about its best target to be named by it
MOVES_SHOWN = 6  # of a game, up to the one that a latent fires on


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


def plays_othello(metadata: Mapping[str, Any]) -> bool:
    """Whether a dictionary's activations come from Othello games."""
    return metadata.get("tokenizer") == "othello" or metadata.get("model") == "shipped"


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


def othello_cards(
    context: Context, results: Mapping[str, Any], shown: int, per_latent: int, games: int
) -> list[LatentCard]:
    """Half of the cards for the strongest board targets, the rest for live latents drawn at random."""
    named = strongest_targets(results, shown // 2)
    choose = _chooser(list(named), shown, context.config.seed)
    found = othello_contexts(context, games, choose, per_latent)
    figures = _figures(Path(context.config.run))
    cards = []
    for latent, places in found.items():
        target = named.get(latent)
        label = "drawn at random"
        if target is not None:
            found = int(results["best_auroc"][target] * 1000) / 1000  # never rounded up to 1, as on the board
            label = f"{target_name(target)}, AUROC {found:.3f}"
        examples = [_board_example(latent, place, target) for place in places]
        cards.append(LatentCard(latent, label, figures(latent), examples))
    return cards


def text_cards(context: Context, shown: int, per_latent: int, seed: int) -> list[LatentCard]:
    """Cards for live latents drawn at random, from the store's held-out rows."""
    dictionary, store = context.dictionary, context.store
    start, stop = context.ranges[-1]
    sample = store.read(context.reads[0], max(start, stop - BATCH), stop)
    latents = _chooser([], shown, seed)(live_latents(dictionary, sample))
    site_known = dataclasses.replace(dictionary, metadata={**dictionary.metadata, "site": context.reads[0]})
    found = top_contexts(site_known, store, latents, per_latent, context.ranges)
    decode = token_texts(str(dictionary.metadata.get("tokenizer") or ""))
    figures = _figures(Path(context.config.run))
    cards = []
    for latent, places in found.items():
        examples = [_text_example(place, decode) for place in places]
        cards.append(LatentCard(latent, "drawn at random", figures(latent), examples))
    return cards


def token_texts(tokenizer: str) -> Callable[[Sequence[int]], list[str]]:
    """Tokens as text where a Hugging Face tokenizer is on this computer already; their ids otherwise."""
    ids = lambda tokens: [str(token) for token in tokens]
    if not tokenizer:
        return ids
    try:
        from transformers import AutoTokenizer

        found = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)
    except Exception:  # whatever transformers lacks, ids can still be shown
        return ids
    return lambda tokens: [found.decode([token]) for token in tokens]


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


def _board_example(latent: int, place: BoardPlace, target: int | None) -> Example:
    moves = move_names(place.moves)
    shown = [(name, i == len(moves) - 1) for i, name in enumerate(moves)][-MOVES_SHOWN:]
    number = len(moves)
    description = f"Latent {latent} at {place.activation:.3g} after move {number}, {moves[-1]}"
    square = None if target is None else target % 64
    last = 8 * (int(moves[-1][1]) - 1) + "abcdefgh".index(moves[-1][0])
    board = position_board(place.mine, place.theirs, last, square, description)
    tokens = ([("…", False)] if number > MOVES_SHOWN else []) + shown
    return Example(f"{place.activation:.3g}", f"move {number}", board, tokens)


def _text_example(place: Place, decode: Callable[[Sequence[int]], list[str]]) -> Example:
    tokens = [(text, i == place.at) for i, text in enumerate(decode(place.tokens))]
    caption = f"sequence {place.sequence}, position {place.position}"
    return Example(f"{place.activation:.3g}", caption, None, tokens)


def load_dictionary(run: Path) -> Dictionary:
    """The run's dictionary."""
    from jaxsae.training import load  # the trainer's imports are heavy

    return load(run)
