"""One trial a seed: a run or a harvest of two processes, a fault, and what comes of the same command again.

The outcome of a trial is `resumed`, where the same command went on and ended with the bits of a run left alone, or
`error, intact`, where it said in one message what is damaged and, with that message followed, did so. Anything else
is a failure of jaxsae: other bits (`CORRUPT`), no end (`HUNG`), a traceback or an unclear end (`CRASHED`).
"""

import dataclasses
import json
import os
import random
import re
import shutil
import signal
from pathlib import Path

import numpy as np

from jaxsae.errors import InputError
from jaxsae.faults import damage
from jaxsae.faults.children import Children
from jaxsae.faults.config import FaultsConfig
from jaxsae.progress import Progress, say
from jaxsae.training.checkpoint import read_metadata

FAULTS = (
    *(f"kill {which} in {kind}" for kind in ("compile", "step", "save", "harvest") for which in ("one", "all")),
    *("flip checkpoint", "cut checkpoint", "flip store", "cut store", "stop one", "fill disk"),
)
STEPS, EVERY, BATCH, ROWS, D = 40, 8, 64, 4096, 16
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
        Path(config.json).write_text(json.dumps([dataclasses.asdict(o) for o in outcomes], indent=2) + "\n")
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
        self._expect(self._command("harvest", self.store), 1, 1)
        self._expect(self._command("train", alone, self.store), 1, 4)
        self.expected_store, self.expected_run = files(self.store), bits(alone)

    def _command(self, name: str, place: Path, store: Path | None = None) -> list[str]:
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
                outcome = _Trial(self, place, fault, count, rng).run()
        else:
            outcome = _Trial(self, place, fault, count, rng).run()
        if outcome[0] in GOOD:
            shutil.rmtree(place, ignore_errors=True)
        return Outcome(seed, fault, str(count), *outcome)


class _Trial:
    """One seed's directory and random numbers."""

    def __init__(self, campaign: Campaign, place: Path, fault: str, count: int, rng: random.Random):
        self.campaign, self.place, self.fault, self.count, self.rng = campaign, place, fault, count, rng
        self.store = campaign.store
        self.output = campaign.workdir / "output" / place.name

    def run(self) -> tuple[str, int | None, str]:
        """(outcome, steps lost, detail)."""
        if "harvest" in self.fault:
            return self._harvest()
        if "store" in self.fault:
            self.store = self.place / "store"
            shutil.copytree(self.campaign.store, self.store)
        run = self.place / "run"
        command = self.campaign._command("train", run, self.store)
        ended = self._first(command, run)
        if ended:
            return ended
        reached = damage.last_step(run)
        spoiled = self._spoil(run)
        status, said = self._again(command)
        detail = spoiled
        if status == 2 and self.fault not in ("kill", "stop"):
            detail, mended = f"{spoiled}: {said.splitlines()[-1][:90]}", self._mend(run, said)
            if not mended:
                return "CRASHED", None, said[-300:]
            status, said = self._again(command)
        if status is None:
            return "HUNG", None, detail
        if status:
            return "CRASHED", None, said[-300:]
        if bits(run) != self.campaign.expected_run:
            return "CORRUPT", None, detail
        resumed = re.search(r"resuming .* at step (\d+)", said)
        lost = reached - (int(resumed.group(1)) if resumed else 0)
        complete = "is complete" in said
        told = detail != spoiled or self.fault == "fill disk"
        return ("error, intact" if told else "resumed"), None if complete else max(0, lost), detail

    def _first(self, command: list[str], run: Path) -> tuple[str, None, str] | None:
        """The run that the fault befalls; an outcome where it did not end as it must."""
        words = self.fault.split()
        kind = words[3] if words[0] == "kill" else "step"
        with Children(self.output, command, 2, 2, peer_timeout=15) as children:
            if self.fault != "fill disk":
                first = EVERY + 5 if words[0] in ("flip", "cut") else 1  # so that there is a checkpoint to damage
                happened = damage.moment(kind, run, self.store, self.rng, STEPS, first)
                children.until(happened, self.campaign.hang_seconds)
                which = "one" if "one" in words else "all"
                damage.strike(children, which, signal.SIGTERM if words[0] == "stop" else signal.SIGKILL, self.rng)
            found = children.wait(self.campaign.hang_seconds)
            if None in found:
                return "HUNG", None, f"after the fault: {found}"
            if self.fault == "fill disk":
                if "disk is full" not in children.output(0) + children.output(1) or "Traceback" in children.output(0):
                    return "CRASHED", None, f"{found} {children.output(0)[-300:]}"
                damage.grow_disk(self.place)
            if words[0] == "stop" and found not in ([75, 75], [0, 0]):
                return "CRASHED", None, f"{found} {children.output(0)[-300:]}"
        return None

    def _spoil(self, run: Path) -> str:
        """Damages a file, where that is the fault; says which."""
        how, what = self.fault.split()[0], self.fault.split()[-1]
        if how not in ("flip", "cut"):
            return ""
        path = damage.newest_checkpoint(run) if what == "checkpoint" else self.store / "sites"
        return "nothing to damage" if path is None else str(damage.spoil(path, how, self.rng).relative_to(self.place))

    def _mend(self, run: Path, said: str) -> bool:
        """Does what the message says: removes the checkpoint, or the file of the store and harvests that again."""
        if found := re.search(r"(\S+/checkpoints/\d+): .*Remove that directory", said):
            shutil.rmtree(found.group(1))
            return True
        if found := re.search(r"(\S+): (sites/\S+) is damaged.*Delete that file", said) or re.search(
            r"--store=(\S+): (\S+zarr.json) is damaged.*delete that file", said
        ):
            (Path(found.group(1)) / found.group(2)).unlink()
            with Children(self.output, self.campaign._command("harvest", self.store)) as children:
                return children.wait(self.campaign.hang_seconds) == [0]
        return False

    def _again(self, command: list[str]) -> tuple[int | None, str]:
        """The same command by another number of processes: the first's status, None where it hung, and its words."""
        with Children(self.output, command, self.count, 4 // self.count if command[0] == "train" else 1) as children:
            found = children.wait(self.campaign.hang_seconds)
            status = None if None in found else found[0]
            said = children.output()
            return (1 if status == 2 and "Traceback" in said else status), said

    def _harvest(self) -> tuple[str, None, str]:
        store = self.place / "store"
        command = self.campaign._command("harvest", store)
        with Children(self.output, command, 2, 1, peer_timeout=5) as children:
            children.until(damage.moment("harvest", self.place, store, self.rng, STEPS), self.campaign.hang_seconds)
            damage.strike(children, self.fault.split()[1], signal.SIGKILL, self.rng)
            if None in children.wait(self.campaign.hang_seconds):
                return "HUNG", None, "after the fault"
        there = len(list((store / "stats").glob("*.json")))
        status, said = self._again(command)
        if status is None or status:
            return "HUNG" if status is None else "CRASHED", None, said[-300:]
        same = files(store) == self.campaign.expected_store
        return "resumed" if same else "CORRUPT", None, f"{there} of 8 shards were there"


def bits(run: Path) -> tuple[int, dict[str, int]]:
    """The newest step of a run, and the sums of the bits of all its arrays; both were checked when they were read."""
    step, metadata = read_metadata(run / "checkpoints")
    return step, metadata["sums"]


def files(store: Path) -> dict[str, bytes]:
    """Every file of a store; what a killed writer leaves beside them (a lock) does not count."""
    found = {str(f.relative_to(store)): f.read_bytes() for f in sorted(store.rglob("*")) if f.is_file()}
    return {name: content for name, content in found.items() if "__lock" not in name}
