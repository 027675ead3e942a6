"""What a check found, and the file that holds all of it."""

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from jaxsae.files import write_json
from jaxsae.numbers import plain

PASSED, WRONG, FAILED, MEASURED, SKIPPED, CUT = "passed", "wrong", "failed", "measured", "skipped", "cut"
BAD = (WRONG, FAILED)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a check came out.

    Attributes:
      status: `passed`; `wrong`: a result is not what it must be; `failed`: it did not compile, raised an error or took its
        process along; `measured`: figures, nothing to pass; `skipped`: it could not be done here; `cut`: the time was over.
      error: the largest error of all results, in their units. bound: what it must not exceed; the pair is that of the case
        that comes nearest its bound. None: nothing was compared.
      message: what is wrong, or why it was skipped.
      figures: whatever else was found.
    """

    status: str
    error: float | None = None
    bound: float | None = None
    message: str = ""
    figures: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Finding:
    """A check and its outcome.

    Attributes:
      name: of the check, unlike any other. part: of `PARTS`. implementation: the kernel or package that was run.
      shapes: batch, d_model, width, k, dtype, as far as there are any. seconds: of all of it, compilation included.
      interpreted: run by an interpreter on the CPU, which shows that a kernel's program is right, not that its device is.
    """

    name: str
    part: str
    implementation: str
    shapes: Mapping[str, Any]
    interpreted: bool
    outcome: Outcome
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the outcome among them."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "outcome"}
        return plain(values | dataclasses.asdict(self.outcome))


def printable(text: str) -> str:
    """One line without control characters, which a terminal would follow."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


class Findings:
    """Everything that was found so far, on disk after each finding."""

    def __init__(self, path: str, head: Mapping[str, Any]):
        self.path, self.head = path, dict(head)
        self.all: list[dict[str, Any]] = []
        self.not_reached: list[str] = []
        self._began = time.monotonic()
        self.unwritten = ""  # why the file does not hold everything
        self.save("running")

    def add(self, finding: dict[str, Any]) -> None:
        """Takes a finding, as `Finding.as_dict` gives it, and writes the file."""
        self.all.append(finding)
        self.save("running")

    def save(self, state: str) -> None:
        """Writes the file whole; `state`: running, complete or cut."""
        self.state = state
        if not self.path:
            return
        try:
            write_json(self.path, self.as_dict())
            self.unwritten = ""
        except OSError as error:  # a full disk, say: what was found is told all the same
            self.unwritten = error.strerror or str(error)

    def as_dict(self) -> dict[str, Any]:
        """What the file holds."""
        seconds = round(time.monotonic() - self._began, 1)
        return self.head | {
            "state": self.state,
            "seconds": seconds,
            "wrong": [f["name"] for f in self.bad],
            "not_reached": self.not_reached,
            "checks": self.all,
        }

    @property
    def judged(self) -> list[dict[str, Any]]:
        """Findings that something was right, or was not."""
        return [f for f in self.all if f["status"] in (PASSED, *BAD)]

    @property
    def cut(self) -> bool:
        """Whether the time was over before all was done."""
        return bool(self.not_reached) or any(f["status"] == CUT for f in self.all)

    @property
    def bad(self) -> list[dict[str, Any]]:
        """Findings of what is wrong or failed."""
        return [f for f in self.all if f["status"] in BAD]

    def of(self, part: str) -> list[dict[str, Any]]:
        """Findings of a part."""
        return [f for f in self.all if f["part"] == part]

    def figures(self, name: str) -> dict[str, Any]:
        """Figures of the check of this name, or none."""
        return next((f["figures"] for f in self.all if f["name"] == name), {})
