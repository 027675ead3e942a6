"""The flags of `jaxsae report`."""

import dataclasses
import math

from jaxsae.config import check, check_positive, option


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """Flags of `jaxsae report`."""

    run: str = option("", "run to draw, or the runs of several sites that one command trained")
    sweep: str = option("", "sweep to draw, finished or not")
    output: str = option("", "file to write; default: report.html in that directory")
    latents: int = option(8, "latents to show with what makes them fire; 0 leaves them out")
    contexts: int = option(4, "places shown for each of them")
    games: int = option(200, "Othello: games searched for these places")
    rows: int = option(16_384, "other stores: held-out rows searched for these places, at most")
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
        "latents: file of labels to show, a JSON object on each line: latent, text, and site where there are several",
    )
    seed: int = option(0, "of the games, of the choice of latents, and of the bootstrap of a sweep's laws")

    def __post_init__(self):
        for name in ("compute", "target_delta_ce"):
            for value in getattr(self, name):
                check(value > 0 and math.isfinite(value), name, value, "must be above 0")
        check_positive(self, "contexts", "games", "rows")
        check(self.latents >= 0, "latents", self.latents, "must be 0 or more")
        check(not self.labels or bool(self.latents), "labels", self.labels, "stand beside latents: give --latents too")
        check(self.seed >= 0, "seed", self.seed, "must be 0 or more")
