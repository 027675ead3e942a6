"""The family of the Othello GPT: models of several sizes, each trained on several numbers of games, and their losses.

`othello_family.json` holds them, made of the cards that `jaxsae train_lm` wrote (configs/othello_family.flags says how) by

    python -m jaxsae.lm.family TABLE.json RUN [RUN ...] [--others RUN ...]

N counts all parameters, embeddings, positions and the unembedding included. D counts predicted moves, 59 a game, none of
which a model sees twice. Losses are of one set of games, on which the floor is known exactly: the entropy of a move that is
drawn at random from the legal ones (`othello.loss_floor`).
"""

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jaxsae.config import read_flag_file
from jaxsae.errors import InputError
from jaxsae.files import write_json
from jaxsae.lm.othello import CONTEXT

FLAGS = "configs/othello_family.flags"
_SHAPE = ("d_model", "layers", "heads")


@dataclasses.dataclass(frozen=True)
class Member:
    """A model of the family.

    Attributes:
      shape: d_model, layers, heads. parameters: N. embedding: of them embeddings, positions and unembedding.
      games: it was trained on, `games_per_batch` a step. tokens: D. seed: of weights and games.
      loss: nats a move, over whole games that it was not trained on. legal_top1: share of likeliest moves that are legal.
      seconds: of CPU that its training took, None where its card does not say. command: that made it.
    """

    shape: dict[str, int]
    parameters: int
    embedding: int
    games: int
    games_per_batch: int
    tokens: int
    seed: int
    loss: float
    legal_top1: float
    seconds: float | None
    command: str

    @property
    def compute(self) -> float:
        """FLOPs of the training, 6 N D."""
        return 6.0 * self.parameters * self.tokens


@dataclasses.dataclass(frozen=True)
class Family:
    """Models of one recipe, and `others` that were trained otherwise, with the `floor` of the `games` they are judged on."""

    floor: float
    games: int
    members: tuple[Member, ...]
    others: tuple[Member, ...] = ()


@cache
def shipped_family() -> Family:
    """That of the package."""
    held = json.loads((resources.files("jaxsae.lm") / "othello_family.json").read_text(encoding="utf-8"))
    rows = lambda name: tuple(Member(**row) for row in held[name])
    return Family(held["floor"], held["games"], rows("members"), rows("others"))


def tokens_trained(card: Mapping[str, Any]) -> int:
    """D of a model by its card: moves predicted in training, with those of the models that it started from."""
    started = card.get("started_from") or {}
    return CONTEXT * card["games"] + (tokens_trained(started) if started else 0)


def member(card: Mapping[str, Any], games_per_batch: int, command: str) -> Member:
    """What a card says."""
    shape, held_out = card["model"], card["held_out"]
    outside = (2 * shape["vocabulary"] + shape["context"]) * shape["d_model"]
    return Member(
        shape={name: shape[name] for name in _SHAPE},
        parameters=card["parameters"],
        embedding=outside,
        games=tokens_trained(card) // CONTEXT,
        games_per_batch=games_per_batch,
        tokens=tokens_trained(card),
        seed=card["seed"],
        loss=held_out["cross_entropy_nats"],
        legal_top1=held_out["legal_top1"],
        seconds=round(card["cpu_seconds"], 1) if "cpu_seconds" in card else None,
        command=command,
    )


def read_member(run: Path) -> tuple[Member, Mapping[str, Any]]:
    """A member and its card, of a directory that `jaxsae train_lm` wrote.

    Raises:
      InputError: no card there.
    """
    from jaxsae.lm.train import TrainLMConfig  # the trainer's imports, which readers of the table do without

    try:
        card = json.loads((run / "card.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{run}: holds no card.json of `jaxsae train_lm` ({error})") from None
    config = read_flag_file(run / "config.flags", TrainLMConfig)
    shape = " ".join(f"--{name}={card['model'][name]}" for name in _SHAPE)
    rest = f"--games={config.games} --seed={config.seed} --output={run.name}"
    return member(card, config.games_per_batch, f"jaxsae train_lm --flagfile={FLAGS} {shape} {rest}"), card


def table(runs: Sequence[Path], others: Sequence[Member] = ()) -> dict[str, Any]:
    """What stands in `othello_family.json`.

    Raises:
      InputError: a run without a card; runs that were judged on different games.
    """
    read = [read_member(run) for run in runs]
    judged = {(card["held_out"]["floor_nats"], card["held_out"]["games"]) for _, card in read}
    if len(judged) != 1:
        raise InputError(f"{', '.join(map(str, runs))}: were judged on different games, {sorted(judged)}")
    ((floor, games),) = judged
    members = sorted((member for member, _ in read), key=lambda m: (m.parameters, m.tokens, m.seed))
    rows = lambda some: [dataclasses.asdict(m) for m in some]
    return {"floor": floor, "games": games, "members": rows(members), "others": rows(others)}


def main() -> None:
    """Writes a table of runs."""
    parser = argparse.ArgumentParser(prog="python -m jaxsae.lm.family", description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path, help="the .json file to write")
    parser.add_argument("runs", type=Path, nargs="+", help="directories that jaxsae train_lm wrote")
    arguments = parser.parse_args()
    write_json(arguments.table, table(arguments.runs, shipped_family().others))


if __name__ == "__main__":
    main()
