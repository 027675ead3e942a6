"""Games' own labels against a board that is played square by square."""

import numpy as np
import pytest

from jaxsae.errors import InputError
from jaxsae.evaluate.probing import board
from jaxsae.lm import othello

GAMES, POSITIONS = othello.full_games(20, np.random.default_rng(3)), slice(4, 51)


def played(moves):
    """After each move (discs turned, board as the next player sees it: 1 mine, -1 theirs), in plain Python."""
    cells = {(3, 3): "W", (4, 4): "W", (3, 4): "B", (4, 3): "B"}
    ways = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b]

    def flips(at, who):
        out = []
        for a, b in ways:
            run, (r, c) = [], (at[0] + a, at[1] + b)
            while cells.get((r, c)) not in (None, who):
                run.append((r, c))
                r, c = r + a, c + b
            out += run if cells.get((r, c)) == who else []
        return out

    can = lambda who: any(flips((r, c), who) for r in range(8) for c in range(8) if (r, c) not in cells)
    out, who = [], "B"
    for token in moves:
        at = divmod(int(othello.TOKEN_TO_SQUARE[token]), 8)
        turned = flips(at, who)
        for one in (*turned, at):
            cells[one] = who
        other = "W" if who == "B" else "B"
        who = other if can(other) else who
        out.append((len(turned), {square: 1 if disc == who else -1 for square, disc in cells.items()}, dict(cells)))
    return out


@pytest.mark.parametrize("task", ["mine:D3", "theirs:F5", "empty:B2", "flipped:3", "column:D", "row:8"])
def test_labels_of_positions(task):
    kind, of = board.parse_task(task)
    found = board.labels_of(task, GAMES, POSITIONS)
    for g, moves in enumerate(GAMES.moves):
        states = played(moves)[POSITIONS]
        at = [divmod(int(othello.TOKEN_TO_SQUARE[token]), 8) for token in moves[POSITIONS]]
        mine = [state[1].get(divmod(of, 8), 0) for state in states]
        expected = {
            "mine": [m == 1 for m in mine],
            "theirs": [m == -1 for m in mine],
            "empty": [m == 0 for m in mine],
            "flipped": [state[0] >= of for state in states],
            "column": [column == of for _, column in at],
            "row": [row == of for row, _ in at],
        }[kind]
        assert found[g].tolist() == expected


def test_labels_of_games():
    black, white, taken = (board.labels_of(task, GAMES, POSITIONS) for task in ("won:black", "won:white", "taken:A1"))
    for g, moves in enumerate(GAMES.moves):
        states = played(moves)
        discs = list(states[-1][2].values())
        assert black[g] == (discs.count("B") > 32) and white[g] == (discs.count("W") > 32)
        assert taken[g] == ((0, 0) in states[50][2])


def test_a_game_that_people_wrote_is_the_same_game():
    for moves in GAMES.moves[:5]:
        names = [f"{'abcdefgh'[s % 8]}{s // 8 + 1}" for s in othello.TOKEN_TO_SQUARE[moves]]
        assert board.moves_of(names, "here").tolist() == moves.tolist()


def test_kept_positions_end_with_the_game():
    batches = list(
        board.batches_of([GAMES.moves[0][:7].astype(np.int32), GAMES.moves[1].astype(np.int32)], POSITIONS, 1)
    )
    assert [which for which, _ in batches] == [slice(0, 1), slice(1, 2)]
    kept = [np.flatnonzero(batch.kept[0]).tolist() for _, batch in batches]
    assert kept == [[4, 5, 6], list(range(4, 51))]
    assert batches[0][1].tokens[0, :7].tolist() == GAMES.moves[0][:7].tolist()


@pytest.mark.parametrize(
    "task", ["mine", "mine:Z9", "flipped:0", "flipped:x", "column:DD", "row:9", "won:red", "lost:A1"]
)
def test_unknown_tasks_are_refused(task):
    with pytest.raises(InputError, match=rf"--probing_tasks={task}: give some of"):
        board.parse_task(task)
