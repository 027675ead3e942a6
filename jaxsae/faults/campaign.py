"""One trial a seed: a run or a harvest of two processes, a fault, and what comes of the same command again.

The outcome of a trial is `resumed`, where the same command went on and ended with the bits of a run left alone, or
`error, intact`, where it said in one message what is damaged and, with that message followed, did so. Anything else
is a failure of jaxsae: other bits (`CORRUPT`), no end (`HUNG`), a traceback or an unclear end (`CRASHED`).
"""

import dataclasses
import os
import random
import shutil
from pathlib import Path

import numpy as np

from jaxsae.errors import InputError
from jaxsae.faults import damage
from jaxsae.faults.children import Children
from jaxsae.faults.config import FaultsConfig
from jaxsae.faults.trial import EVERY, STEPS, Trial, bits, files
from jaxsae.files import write_json
from jaxsae.progress import Progress, say

FAULTS = (
    *(f"kill {which} in {kind}" for kind in ("compile", "step", "save", "harvest") for which in ("one", "all")),
    *("flip checkpoint", "cut checkpoint", "flip store", "cut store", "stop one", "fill disk"),
)
BATCH, ROWS, D = 64, 4096, 16
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
    campaign = Campaign(workdir, config.hang_seconds)
    outcomes = []
    with Progress(config.seeds, "faults", "trial") as bar:
        for seed in range(config.first_seed, config.first_seed + config.seeds):
            outcomes.append(campaign.trial(seed))
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


class Campaign:
    """The store, the undisturbed run, and trials against them."""

    def __init__(self, workdir: Path, hang_seconds: float):
        self.workdir, self.hang_seconds = workdir, hang_seconds
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(workdir / "compiled"))
        os.environ |= {
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        rng = np.random.default_rng(0)
        active = rng.random((ROWS, 32)) * (rng.random((ROWS, 32)) < 0.1)
        rows = active @ rng.normal(size=(32, D)) + rng.normal(size=D) + 0.05 * rng.normal(size=(ROWS, D))
        np.save(workdir / "rows.npy", rows.astype(np.float32))
        self.store, alone = workdir / "store", workdir / "alone"
        for directory in (self.store, alone):
            shutil.rmtree(directory, ignore_errors=True)
        self._expect(self.command("harvest", self.store), 1, 1)
        self._expect(self.command("train", alone, self.store), 1, 4)
        self.expected_store, self.expected_run = files(self.store), bits(alone)

    def command(self, name: str, place: Path, store: Path | None = None) -> list[str]:
        """A small `harvest` to `place`, or a `train` there on `store`."""
        if name == "harvest":
            sizes = ["--shard_rows=512", "--chunk_rows=64"]
            return ["harvest", "--source=arrays", f"--input={self.workdir / 'rows.npy'}", f"--store={place}", *sizes]
        shape = ["--width=512", "--k=4", f"--batch_size={BATCH}", f"--tokens={STEPS * BATCH}"]
        how = ["--mesh=2,2", f"--checkpoint_every={EVERY}", "--log_every=1", "--learning_rate=0.003"]
        return ["train", f"--store={store}", f"--workdir={place}", *shape, *how]

    def _expect(self, command: list[str], count: int, devices: int) -> None:
        with Children(self.workdir / "output", command, count, devices) as children:
            if children.wait(self.hang_seconds) != [0] * count:
                raise InputError(f"--workdir={self.workdir}: the undisturbed run failed already:\n{children.output()}")

    def trial(self, seed: int) -> Outcome:
        """One fault; files of trials that went well are removed."""
        rng = random.Random(seed)
        fault = FAULTS[seed % len(FAULTS)]
        count = rng.choices((1, 2, 4), (5, 4, 1))[0]
        place = self.workdir / f"seed-{seed}"
        shutil.rmtree(place, ignore_errors=True)
        if fault == "fill disk":
            with damage.small_disk(place, rng) as reason:
                if reason:
                    return Outcome(seed, fault, "-", "skipped", None, reason)
                outcome = Trial(self, place, fault, count, rng).run()
        else:
            outcome = Trial(self, place, fault, count, rng).run()
        if outcome[0] in GOOD:
            shutil.rmtree(place, ignore_errors=True)
        return Outcome(seed, fault, str(count), *outcome)
