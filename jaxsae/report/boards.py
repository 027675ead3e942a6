"""Othello boards as inline SVG: AUROC of each square, and positions."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from jaxsae.lm import othello
from jaxsae.lm.othello import TOKEN_TO_SQUARE

STATES = ("empty", "mine", "theirs")  # the order of the 192 targets, 64 squares each
FOUND = 0.9
NONE = "\N{EN DASH}"  # of a target that is undefined
CELL = 40
_MARGIN = 22


def square_name(square: int) -> str:
    """0 -> a1, 63 -> h8: column letter, row number from the top."""
    return othello.square_name(square).lower()


def move_names(tokens: Sequence[int]) -> list[str]:
    """The squares of a sequence of moves."""
    return [square_name(int(TOKEN_TO_SQUARE[token])) for token in tokens]


def target_name(target: int) -> str:
    """What one of the 192 targets says, such as "mine at e6"."""
    return f"{STATES[target // 64]} at {square_name(target % 64)}"


def auroc_board(state: str, auroc: Sequence[float | None], latents: Sequence[int | None]) -> Markup:
    """A board whose squares are as strong in colour as the best latent's AUROC is above 0.5.

    Args:
      state: "empty", "mine" or "theirs". auroc, latents: [64], None where the target is undefined.
    """
    cells = "".join(_auroc_cell(state, s, auroc[s], latents[s]) for s in range(64))
    found = sum(a is not None and a > FOUND for a in auroc)
    return _board(cells, f"Best AUROC of a single latent for {state}: {found} of 64 squares above {FOUND}")


def _auroc_cell(state: str, square: int, auroc: float | None, latent: int | None) -> str:
    x, y = _corner(square)
    where = f'x="{x + 1}" y="{y + 1}" width="{CELL - 2}" height="{CELL - 2}" rx="3"'
    if auroc is None:
        dash = f'<text class="rim" x="{x + CELL / 2}" y="{y + CELL / 2 + 4}">{NONE}</text>'
        return f'<g><title>{square_name(square)}: never or always {state}</title><rect class="undefined" {where}/>{dash}</g>'
    strength = min(max((auroc - 0.5) / 0.5, 0), 1) ** 2  # squared: the upper end is where differences matter
    title = f"{square_name(square)} {state}: AUROC {auroc:.4f}, latent {latent}"
    tone = "strong" if strength > 0.75 else "middle" if strength > 0.45 else "weak"
    ring = f'<rect class="found" {where}/>' if auroc > FOUND else ""
    label = f'<text class="{tone}" x="{x + CELL / 2}" y="{y + CELL / 2 + 4}">{_two_digits(auroc)}</text>'
    return f'<g><title>{title}</title><rect class="heat" {where} fill-opacity="{strength:.3f}"/>{ring}{label}</g>'


def figure_board(board: Mapping[str, Any]) -> Markup:
    """A `Board` of `evaluate/summary.py`, as its JSON has it: a figure for each square, stronger in colour where larger."""
    low, high = board.get("low", 0.0), board.get("high", 1.0)
    cells = []
    for square, value in enumerate(board["values"]):
        x, y = _corner(square)
        where = f'x="{x + 1}" y="{y + 1}" width="{CELL - 2}" height="{CELL - 2}" rx="3"'
        strength = 0.0 if value is None else min(max((value - low) / ((high - low) or 1), 0), 1)
        tone = "strong" if strength > 0.75 else "middle" if strength > 0.45 else "weak"
        text = NONE if value is None else f"{value:.2f}".replace("0.", ".", 1)
        shape = f'<rect class="heat" {where} fill-opacity="{strength:.3f}"/>'
        label = f'<text class="{tone}" x="{x + CELL / 2}" y="{y + CELL / 2 + 4}">{text}</text>'
        cells.append(f"<g><title>{square_name(square)}: {text}</title>{shape}{label}</g>")
    return _board("".join(cells), str(board["title"]))


def position_board(
    mine: Sequence[bool], theirs: Sequence[bool], last: int, target: int | None, description: str
) -> Markup:
    """A position as the player to move sees it.

    Args:
      mine, theirs: [64]. last: square of the last move. target: square to mark, if any.
    """
    cells = []
    for square in range(64):
        x, y = _corner(square)
        cells.append(f'<rect class="square" x="{x + 0.5}" y="{y + 0.5}" width="{CELL - 1}" height="{CELL - 1}"/>')
        if mine[square] or theirs[square]:
            whose = "mine" if mine[square] else "theirs"
            cells.append(f'<circle class="disc {whose}" cx="{x + CELL / 2}" cy="{y + CELL / 2}" r="{CELL * 0.36}"/>')
    x, y = _corner(last)
    cells.append(f'<circle class="last" cx="{x + CELL / 2}" cy="{y + CELL / 2}" r="5"/>')
    if target is not None:
        x, y = _corner(target)
        cells.append(f'<rect class="target" x="{x + 1.5}" y="{y + 1.5}" width="{CELL - 3}" height="{CELL - 3}"/>')
    return _board("".join(cells), description)


def _corner(square: int) -> tuple[int, int]:
    return _MARGIN + CELL * (square % 8), _MARGIN + CELL * (square // 8)


def _two_digits(auroc: float) -> str:
    """0.974 -> .97; never rounded up to 1 below it."""
    return "1.0" if auroc == 1 else f"{int(auroc * 100) / 100:.2f}"[1:]


def _board(cells: str, description: str) -> Markup:
    size = _MARGIN + 8 * CELL + 2
    letters = "".join(
        f'<text class="rim" x="{_MARGIN + CELL * (i + 0.5)}" y="14">{"abcdefgh"[i]}</text>'
        f'<text class="rim" x="9" y="{_MARGIN + CELL * (i + 0.5) + 4}">{i + 1}</text>'
        for i in range(8)
    )
    label = escape(description)
    return Markup(
        f'<svg class="board" viewBox="0 0 {size} {size}" role="img" aria-label="{label}">{letters}{cells}</svg>'
    )
