"""What a sweep's directory holds, as far as it is there."""

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

from jaxsae.errors import InputError
from jaxsae.sweep.directory import SWEEP, read_results


@dataclasses.dataclass(frozen=True)
class SweepFiles:
    """sweep.json.

    Attributes:
      path: the sweep's directory. content: all of sweep.json. members: its members, each an object.
      othello: whether the members' language model plays Othello, as far as an evaluated member tells.
    """

    path: Path
    content: dict[str, Any]
    members: list[dict[str, Any]]
    othello: bool

    @property
    def counts(self) -> Counter:
        """{status: members}."""
        return Counter(str(m.get("status")) for m in self.members)

    @property
    def finished(self) -> list[dict[str, Any]]:
        """Members that have figures."""
        return [m for m in self.members if m.get("status") == "finished" and isinstance(m.get("figures"), dict)]


def read_sweep(path: Path) -> SweepFiles:
    """Reads sweep.json.

    Raises:
      InputError: no such directory, no sweep in it, a damaged file, no members.
    """
    if not path.is_dir():
        raise InputError(f"--sweep={path}: no such directory. Give the --workdir of a `jaxsae sweep`.")
    if not (path / SWEEP).is_file():
        run = " It holds a run: give it as --run." if (path / "config.flags").is_file() else ""
        raise InputError(f"--sweep={path}: no {SWEEP} in it, so no sweep has begun there.{run}")
    content = read_results(path)
    return SweepFiles(path, content, content["members"], _plays_othello(path))


def _plays_othello(path: Path) -> bool:
    """Whether a member's eval/splice.json counts games."""
    for file in sorted(path.glob("members/*/eval/splice.json")):
        try:
            return "games" in json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
    return False
