"""The flags of `jaxsae report`."""

import dataclasses
import math

from jaxsae.config import check, check_positive, option
from jaxsae.dashboard.settings import GAMES, ROWS, Settings
from jaxsae.errors import InputError

CARD_ROWS, CARD_GAMES = 16_384, 200
_NO_NUMBER = "is given alone, for pages of latents; --cards=N is how many latents report.html shows"


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """Flags of `jaxsae report`."""

    run: str = option("", "run to draw, or the runs of several sites that one command trained")
    sweep: str = option("", "sweep to draw, finished or not")
    output: str = option("", "file to write; default: report.html in that directory")
    cards: int = option(8, "latents that report.html shows with what makes them fire; 0 leaves them out")
    contexts: int = option(4, "places shown for each of them")
    latents: bool = option(
        False,
        "also pages of latents, to search, sort and read one by one, in the folder latents/ beside the report",
        no_number=_NO_NUMBER,
    )
    which: str = option("", "--latents: those that are shown, such as 0:1000,1234; default: all that fire")
    top: int = option(Settings.top, "--latents: strongest contexts of each, at most one of a text or game")
    per_band: int = option(
        Settings.per_band,
        f"--latents: contexts drawn from each of {Settings.bands} equal parts of 0 to the largest activation",
    )
    around: tuple[int, ...] = option(
        (Settings.before, Settings.after), "--latents: tokens shown before and behind the one that a latent fires on"
    )
    store: str = option(
        "", "activations to search for what latents fire on; default: rows of the run's own store kept from training"
    )
    rows: int | None = option(
        None, f"rows of the store that are searched, at most; default: {ROWS:,} with --latents, for cards {CARD_ROWS:,}"
    )
    trained_rows: bool = option(False, "--latents: search rows before the held-out ones as well, which training saw")
    games: int | None = option(
        None, f"Othello: games that are searched; default: {GAMES:,} with --latents, for cards {CARD_GAMES}"
    )
    compute: tuple[float, ...] = option(
        (), "sweep: FLOPs budgets to split into width and tokens; default: the largest member's, and ten times that"
    )
    target_delta_ce: tuple[float, ...] = option(
        (), "sweep: delta CE to find k for, nats a token; default: those of 0.01, 0.03, 0.1, 0.3 within reach"
    )
    scaling_curve: str = option(
        "epoch", "sweep: curve of effective compute: hoffmann, epoch, or a JSON file (see evaluate)"
    )
    labels: str = option(
        "",
        "--latents: file of labels to show, a JSON object on each line: latent, text, and site where there are several",
    )
    seed: int = option(0, "of the games, of draws of latents and contexts, and of the bootstrap of a sweep's laws")

    def __post_init__(self):
        for name in ("compute", "target_delta_ce"):
            for value in getattr(self, name):
                check(value > 0 and math.isfinite(value), name, value, "must be above 0")
        if not isinstance(self.latents, bool):
            raise InputError(f"--latents={self.latents}: {_NO_NUMBER}")
        check_positive(self, "contexts", "games", "rows")
        check(self.cards >= 0, "cards", self.cards, "must be 0 or more")
        check(
            self.latents or not self.labels, "labels", self.labels, "stand in pages of latents: give --latents as well"
        )
        check(self.seed >= 0, "seed", self.seed, "must be 0 or more")
        told = ",".join(map(str, self.around))
        check(
            len(self.around) == 2 and min(self.around) >= 0,
            "around",
            told,
            "give two numbers of 0 or more, such as 24,8",
        )
        check(
            not (self.latents and self.sweep), "sweep", self.sweep, "has no --latents: give one of its members by --run"
        )
        for name in ("which", "trained_rows"):
            value = getattr(self, name)
            check(self.latents or not value, name, value, "is of --latents: give that as well")
        self.search  # noqa: B018  refuses what it cannot take

    @property
    def search(self) -> Settings:
        """What --latents looks at."""
        given = {"rows": self.rows, "games": self.games}
        return Settings(
            **{name: value for name, value in given.items() if value is not None},
            trained_rows=self.trained_rows,
            top=self.top,
            per_band=self.per_band,
            before=self.around[0],
            after=self.around[1],
            which=self.which,
            seed=self.seed,
        )
