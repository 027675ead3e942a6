"""One trial: a run or a harvest of two processes, its fault, and what comes of the same command again."""

import random
import re
import shutil
import signal
from pathlib import Path

from jaxsae.faults import damage
from jaxsae.faults.children import Children
from jaxsae.faults.undisturbed import EVERY, STEPS, Undisturbed, bits, files


class Trial:
    """One seed's directory and random numbers."""

    def __init__(self, undisturbed: Undisturbed, place: Path, fault: str, count: int, rng: random.Random):
        self.undisturbed, self.place, self.fault, self.count, self.rng = undisturbed, place, fault, count, rng
        self.store = undisturbed.store
        self.output = undisturbed.workdir / "output" / place.name

    def run(self) -> tuple[str, int | None, str]:
        """(outcome, steps lost, detail)."""
        if "harvest" in self.fault:
            return self._harvest()
        if "store" in self.fault:
            self.store = self.place / "store"
            shutil.copytree(self.undisturbed.store, self.store)
        run = self.place / "run"
        command = self.undisturbed.command("train", run, self.store)
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
        if bits(run) != self.undisturbed.expected_run:
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
                children.until(happened, self.undisturbed.hang_seconds)
                which = "one" if "one" in words else "all"
                damage.strike(children, which, signal.SIGTERM if words[0] == "stop" else signal.SIGKILL, self.rng)
            found = children.wait(self.undisturbed.hang_seconds)
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
            with Children(self.output, self.undisturbed.command("harvest", self.store)) as children:
                return children.wait(self.undisturbed.hang_seconds) == [0]
        return False

    def _again(self, command: list[str]) -> tuple[int | None, str]:
        """The same command by another number of processes: the first's status, None where it hung, and its words."""
        with Children(self.output, command, self.count, 4 // self.count if command[0] == "train" else 1) as children:
            found = children.wait(self.undisturbed.hang_seconds)
            status = None if None in found else found[0]
            said = children.output()
            return (1 if status == 2 and "Traceback" in said else status), said

    def _harvest(self) -> tuple[str, None, str]:
        store = self.place / "store"
        command = self.undisturbed.command("harvest", store)
        with Children(self.output, command, 2, 1, peer_timeout=5) as children:
            children.until(damage.moment("harvest", self.place, store, self.rng, STEPS), self.undisturbed.hang_seconds)
            damage.strike(children, self.fault.split()[1], signal.SIGKILL, self.rng)
            if None in children.wait(self.undisturbed.hang_seconds):
                return "HUNG", None, "after the fault"
        there = len(list((store / "stats").glob("*.json")))
        status, said = self._again(command)
        if status is None or status:
            return "HUNG" if status is None else "CRASHED", None, said[-300:]
        same = files(store) == self.undisturbed.expected_store
        return "resumed" if same else "CORRUPT", None, f"{there} of 8 shards were there"
