"""Flags of `jaxsae sweep`: every flag of `jaxsae train`, as a list, and what is to be done with the grid of them."""

import dataclasses
from typing import Any, Literal, get_origin

from jaxsae.config import check, check_positive, group, leaves, option
from jaxsae.evaluate.config import SUITES
from jaxsae.store.schema import SOURCE_STORE
from jaxsae.training.config import TrainConfig

# Flags of train that no two members may differ in.
SINGLE = ("store", "source_run", "source_rows", "workdir", "mesh", "follow", "keep_bytes")
LISTS = tuple(
    field.name for field, hint in leaves(TrainConfig) if get_origin(hint) is tuple and field.name not in SINGLE
)
DEFAULTS = {"checkpoint_every": 20, "data_seed": 0}  # that are not those of train


def _text(value: Any) -> tuple[str, ...]:
    """A default as the values of a list."""
    if value is dataclasses.MISSING or value in (None, "", ()):
        return ()
    if isinstance(value, tuple):
        return (",".join(map(str, value)),)
    return (str(value).lower() if isinstance(value, bool) else str(value),)


def _grid_flags() -> type:
    """A dataclass with a list of strings for each flag of `train` that members may differ in."""
    fields = []
    for field, _ in leaves(TrainConfig):
        if field.name not in SINGLE:
            default = _text(DEFAULTS.get(field.name, field.default))
            help_ = field.metadata.get("help", "")
            if field.name in LISTS:
                help_ += f'. A member\'s own list in quotes: --{field.name}=\'"8,64","16,64"\''
            fields.append((field.name, tuple[str, ...], option(default, help_)))
    return dataclasses.make_dataclass("GridFlags", fields, frozen=True, namespace={"__doc__": "Lists of values."})


GridFlags = _grid_flags()


@dataclasses.dataclass(frozen=True)
class SweepConfig:
    """Which members there are, where they run, and how they are judged. Every flag below the first takes a list."""

    store: str = option(
        help="activations to train on: a path, file://, gs:// or s3://; for meta-SAEs the decoder's rows that one of them "
        f"has, META/{SOURCE_STORE}"
    )
    workdir: str = option(
        help="directory of the sweep; the same command again, here or on another host, helps it along"
    )
    zip: tuple[str, ...] = option(
        (),
        "flags whose lists go together, value by value, such as width,tokens; all others are crossed; all: every list",
    )
    tokens_exponent: float = option(
        0.0,
        "a member's tokens are --tokens times (width / --anchor_width) to this power: 0.6 as in 2406.04093; 0: fixed",
    )
    learning_rate_exponent: float = option(
        0.0, "a member's rate is --learning_rate times (width / --anchor_width) to this power: -0.5 as in 2406.04093"
    )
    anchor_width: int | None = option(None, "the width at which --tokens and --learning_rate hold as they are given")
    mesh: tuple[int, ...] = option((), "devices of a worker as DATA,MODEL; default: all on MODEL")
    dry_run: bool = option(False, "print the members with their operations, bytes, memory and time, and start nothing")
    topology: str = option("", "dry_run: memory and time on devices you do not have, as for `jaxsae plan`")
    workers: int = option(1, "processes on this machine that share the members; more may be started by hand, anywhere")
    together: int = option(4, "members that a worker trains side by side on the same batches, where memory allows")
    stack: Literal["auto", "on", "off"] = option(
        "auto", "members of equal shape as one program (vmap): auto: where it was measured to be faster, never on CPU"
    )
    checkpoint_seconds: float = option(
        15.0,
        "seconds between checkpoints, at least; --checkpoint_every says at which steps, and 5% of the time is the limit",
    )
    wait: bool = option(True, "stay until all members are done, to take over those of workers that are lost")
    lease: float = option(60.0, "seconds without a sign of life after which a worker on another machine counts as lost")
    retry_failed: bool = option(False, "train members again that have failed")
    evaluate: tuple[str, ...] = option(
        ("reconstruction", "splice"),
        f"how finished members are judged, of {', '.join(SUITES)}; empty: by training alone",
    )
    eval_rows: int = option(65_536, "reconstruction: held-out rows, at most")
    games: int = option(500, "splice, othello: games played for the evaluation of a member")
    text: tuple[str, ...] = option(
        (), "splice: what a language model reads; default: the harvested text, after its end"
    )
    documents: str = option("", "splice: which documents of the text, FIRST:END")
    text_tokens: int = option(200_000, "splice: tokens of text, at most")
    model: str = option("", "splice, othello: the model; default: the store's own")
    holdout_members: tuple[str, ...] = option(
        (), "members that the fits do not see but predict, by name; * stands for anything, as in width2048_*"
    )
    compute: tuple[float, ...] = option((), "operations to split into width and tokens; default: of the largest member")
    target_delta_ce: tuple[float, ...] = option((), "nats a token to find the best k for")
    csv: str = option("", "file for the table")
    grid: GridFlags = group(GridFlags)

    def __post_init__(self):
        check_positive(self, "anchor_width", "workers", "together", "lease", "eval_rows", "games", "text_tokens")
        for name in ("tokens_exponent", "learning_rate_exponent"):
            value = getattr(self, name)
            check(not value or self.anchor_width is not None, name, value, "needs --anchor_width")
        check(
            not self.learning_rate_exponent or bool(self.grid.learning_rate),
            "learning_rate_exponent",
            self.learning_rate_exponent,
            "needs --learning_rate, the rate at --anchor_width; without either each method takes its own rule",
        )
        for name in ("compute", "target_delta_ce"):
            values = getattr(self, name)
            check(all(v > 0 for v in values), name, ",".join(map(str, values)), "must be positive")
        unknown = [name for name in self.evaluate if name not in SUITES]
        check(not unknown, "evaluate", ",".join(self.evaluate), f"give some of {', '.join(SUITES)}, or nothing")
        check(not self.topology or self.dry_run, "topology", self.topology, "needs --dry_run")
        check("://" not in self.workdir, "workdir", self.workdir, "must be a directory that all workers share")
        check(bool(self.workdir), "workdir", "", "name a directory")
        check(self.checkpoint_seconds >= 0, "checkpoint_seconds", self.checkpoint_seconds, "must be 0 or more")
        check(bool(self.grid.width), "width", "", "give one width or more: the number of latents of the members")
