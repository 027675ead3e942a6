"""The flags of `jaxsae evaluate --suite=probing`."""

import dataclasses
from typing import Literal

from jaxsae.config import check, check_positive, option

POOLS = ("mean", "max", "last")


@dataclasses.dataclass(frozen=True)
class ProbingConfig:
    """What is probed for, in which contexts, and how."""

    probing_labels: tuple[str, ...] = option(
        (),
        'probing: JSONL files of labelled contexts, one a line: {"text": ..., "label": ...}; or, labels by token, {"text": '
        '..., "spans": [[first, end, label], ...]} in characters, end not counted, where a token has the label of the span '
        'that most of it is in, or none; of games {"moves": ["C4", ...], "label": ...} or {"moves": ..., "labels": [...]}, '
        "one a move, null where it is left out. Labels are strings, whole numbers, true or false; of two classes the last "
        "in alphabetical order is told from the other, of several each from the rest. Othello needs no file",
    )
    probing_tasks: tuple[str, ...] = option(
        ("mine:D3", "theirs:F5", "empty:B2", "flipped:3", "column:D", "taken:A1", "won:black"),
        "probing: Othello without --probing_labels: mine:SQUARE, theirs:SQUARE, empty:SQUARE (as the player to move sees "
        "it), flipped:N (the last move turned N discs or more), column:LETTER or row:DIGIT (of the last move), each a label "
        "of every position; taken:SQUARE (by the last position that is kept), won:black or won:white, each of a whole game",
    )
    probing_contexts: int = option(1000, "probing: texts or games, at most, of each file, drawn by --seed")
    probing_rows: int = option(6000, "probing: rows of labels by token, at most, drawn by --seed")
    probing_test: float = option(0.3, "probing: share of the contexts that measures; the others fit and choose")
    probing_k: tuple[int, ...] = option((1, 2, 5, 16), "probing: latents that a sparse probe has")
    probing_pool: tuple[str, ...] = option(
        ("mean", "max"),
        f"probing: how a context's positions become one row where its label is one: {', '.join(POOLS)}; means over tasks "
        "are of the first, since coordinates of both signs lose by a maximum what latents keep",
    )
    probing_choose: Literal["standardized", "difference"] = option(
        "standardized",
        "probing: latents of a sparse probe are those with the largest absolute difference of the classes' means over their "
        "standard deviation (standardized), or that difference alone, as SAEBench has it (difference)",
    )

    def __post_init__(self):
        check_positive(self, "probing_contexts", "probing_rows")
        check(0 < self.probing_test < 1, "probing_test", self.probing_test, "must be between 0 and 1")
        listed = ",".join(map(str, self.probing_k))
        good = bool(self.probing_k) and min(self.probing_k) >= 1 and len({*self.probing_k}) == len(self.probing_k)
        check(good, "probing_k", listed, "give whole numbers from 1 on, each once")
        listed = ",".join(self.probing_pool)
        good = bool(self.probing_pool) and set(self.probing_pool) <= set(POOLS)
        check(good, "probing_pool", listed, f"give one or more of {', '.join(POOLS)}")
