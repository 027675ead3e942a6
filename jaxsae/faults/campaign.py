"""One trial a seed: a run or a harvest of two processes, a fault, and what comes of the same command again.

The outcome of a trial is `resumed`, where the same command went on and ended with the bits of a run left alone, or
`error, intact`, where it said in one message what is damaged and, with that message followed, did so. Anything else
is a failure of jaxsae: other bits (`CORRUPT`), no end (`HUNG`), a traceback or an unclear end (`CRASHED`).
"""

import dataclasses
import random
import shutil
from pathlib import Path

from jaxsae.errors import InputError
from jaxsae.faults import damage
from jaxsae.faults.config import FaultsConfig
from jaxsae.faults.trial import Trial
from jaxsae.faults.undisturbed import Undisturbed
from jaxsae.files import write_json
from jaxsae.progress import Progress, say

FAULTS = (
    *(f"kill {which} in {kind}" for kind in ("compile", "step", "save", "harvest") for which in ("one", "all")),
    *("flip checkpoint", "cut checkpoint", "flip store", "cut store", "stop one", "fill disk"),
)
GOOD = ("resumed", "error, intact", "skipped")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Of one trial. `lost`: steps that had been logged and were taken again; None where that means nothing."""

    seed: int
    fault: str
    resumed_by: str
    outcome: str
    lost: int | None = None
    detail: str = ""


def faults(config: FaultsConfig) -> list[Outcome]:
    """Runs the trials, prints the table, and returns the outcomes.

    Raises:
      InputError: a trial ended in corruption, a hang or a crash; the table says which.
    """
    workdir = Path(config.workdir).absolute()
    workdir.mkdir(parents=True, exist_ok=True)
    undisturbed = Undisturbed(workdir, config.hang_seconds)
    outcomes = []
    with Progress(config.seeds, "faults", "trial") as bar:
        for seed in range(config.first_seed, config.first_seed + config.seeds):
            outcomes.append(run_trial(undisturbed, seed))
            bar.advance(1)
            say(_line(outcomes[-1]))
    if config.json:
        write_json(config.json, [dataclasses.asdict(o) for o in outcomes])
    print("\n".join(table(outcomes)))
    bad = [o for o in outcomes if o.outcome not in GOOD]
    if bad:
        seeds = ", ".join(str(o.seed) for o in bad)
        raise InputError(f"{len(bad)} of {len(outcomes)} trials failed (seeds {seeds}); their files are in {workdir}.")
    return outcomes


def _line(outcome: Outcome) -> str:
    lost = "" if outcome.lost is None else f", {outcome.lost} steps lost"
    return (
        f"{outcome.seed:>4}  {outcome.fault:<20} by {outcome.resumed_by:<6} {outcome.outcome}{lost}  {outcome.detail}"
    )


def table(outcomes: list[Outcome]) -> list[str]:
    """For each fault: trials, outcomes, and the most steps that were lost."""
    names = [*GOOD, *sorted({o.outcome for o in outcomes} - set(GOOD))]
    lines = [f"{'fault':<20}{'trials':>8}" + "".join(f"{n:>15}" for n in names) + f"{'most lost':>11}"]
    for fault in [*sorted({o.fault for o in outcomes}, key=FAULTS.index), "all"]:
        of = [o for o in outcomes if fault in (o.fault, "all")]
        lost = max((o.lost for o in of if o.lost is not None), default="-")
        lines.append(
            f"{fault:<20}{len(of):>8}"
            + "".join(f"{sum(o.outcome == n for o in of):>15}" for n in names)
            + f"{lost:>11}"
        )
    return lines


def run_trial(undisturbed: Undisturbed, seed: int) -> Outcome:
    """One fault; files of trials that went well are removed."""
    rng = random.Random(seed)
    fault = FAULTS[seed % len(FAULTS)]
    count = rng.choices((1, 2, 4), (5, 4, 1))[0]
    place = undisturbed.workdir / f"seed-{seed}"
    shutil.rmtree(place, ignore_errors=True)
    if fault == "fill disk":
        with damage.small_disk(place, rng) as reason:
            if reason:
                return Outcome(seed, fault, "-", "skipped", None, reason)
            outcome = Trial(undisturbed, place, fault, count, rng).run()
    else:
        outcome = Trial(undisturbed, place, fault, count, rng).run()
    if outcome[0] in GOOD:
        shutil.rmtree(place, ignore_errors=True)
    return Outcome(seed, fault, str(count), *outcome)
