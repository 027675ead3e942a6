"""The directory of a sweep: what it is a sweep of, and each member's outcome.

sweep.flags  grid.json  sweep.json  claims/  members/NAME/ (runs)  members/NAME/member.json (how it ended)
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from jaxsae.config import to_flag_lines
from jaxsae.errors import InputError
from jaxsae.files import write_text
from jaxsae.paths import absolute, check_above, check_encoding
from jaxsae.store import Store, open_store
from jaxsae.sweep.claims import CLAIMS
from jaxsae.sweep.config import SweepConfig
from jaxsae.sweep.grid import MEMBERS, Member
from jaxsae.training.config import FREE_ON_RESUME
from jaxsae.version import __version__

FLAGS, GRID, SWEEP, OUTCOME = "sweep.flags", "grid.json", "sweep.json", "member.json"
STATUSES = ("finished", "running", "waiting", "failed")
_JUDGED_BY = ("evaluate", "eval_rows", "games", "text", "documents", "text_tokens", "model")


def is_sweep(path: Path) -> bool:
    """Whether a directory is that of a sweep."""
    return (path / GRID).is_file()


def open_sweep(config: SweepConfig, members: list[Member], store: Store) -> Path:
    """Makes the sweep's directory, or checks that it is of the same grid on the same store.

    Raises:
      InputError: it holds a sweep of another grid, or something else; the store has changed since the sweep began.
    """
    path = Path(config.workdir)
    check_encoding("--workdir=", config.workdir)
    check_above("--workdir=", path)
    if path.exists() and not path.is_dir():
        raise InputError(f"--workdir={path}: is a file. Give a directory.")
    foreign = [p.name for p in path.iterdir()] if path.is_dir() and not is_sweep(path) else []
    if any(name in ("sites", "checkpoints", "config.flags") for name in foreign):
        what = "a store" if "sites" in foreign else "a run"
        raise InputError(f"--workdir={path}: holds {what}. Give another directory, such as {path}-sweep.")
    (path / CLAIMS).mkdir(parents=True, exist_ok=True)
    (path / MEMBERS).mkdir(exist_ok=True)
    mine = _identity(config, members, store)
    before = _create_or_read(path / GRID, mine)
    _check_same(config, before, mine)
    if not (path / FLAGS).exists():  # later workers may have flags of their own, such as --workers
        write_text(
            path / FLAGS, "\n".join([f"# jaxsae sweep --flagfile={path / FLAGS}", "", *to_flag_lines(config)]) + "\n"
        )
    return path


def _identity(config: SweepConfig, members: list[Member], store: Store) -> dict[str, Any]:
    fixed = lambda flags: {n: v for n, v in flags.items() if n not in (*FREE_ON_RESUME, "store")}
    sites = {m.config.site or (store.sites[0] if len(store.sites) == 1 else "") for m in members}
    marks = {s: store.metadata(s).get("fingerprint", "") for s in sorted(sites) if s in store.sites}
    return {
        "members": {m.name: fixed(m.flags) for m in members},
        "evaluation": {n: _plain(getattr(config, n)) for n in _JUDGED_BY},
        "store": absolute(config.store, new=True),
        "rows": store.rows,
        "fingerprints": marks,
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _create_or_read(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """What the file holds, which is `content` where there was none. Of several workers one creates it."""
    text = json.dumps(content, indent=1)
    try:
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644), "w", encoding="utf-8") as file:
            file.write(text)
        return json.loads(text)
    except FileExistsError:
        deadline = time.monotonic() + 5
    while True:
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError:  # whoever creates it has not written it yet, or was killed before it could
            if time.monotonic() > deadline:
                if any((path.parent / MEMBERS).iterdir()):
                    raise InputError(
                        f"{path}: cannot be read, and members have begun. Give another --workdir, or restore the file."
                    ) from None
                write_text(path, text)
                return json.loads(text)
            time.sleep(0.1)


def _check_same(config: SweepConfig, before: dict[str, Any], mine: dict[str, Any]) -> None:
    mine = json.loads(json.dumps(mine))
    theirs, ours = before["members"], mine["members"]
    if theirs != ours:
        gone, new = sorted(set(theirs) - set(ours)), sorted(set(ours) - set(theirs))
        changed = [
            f"{name}: --{flag}={theirs[name].get(flag)} (now {ours[name].get(flag)})"
            for name in theirs
            for flag in {**theirs[name], **ours.get(name, {})}
            if name in ours and theirs[name].get(flag) != ours[name].get(flag)
        ]
        told = (
            [f"without {', '.join(gone[:3])}"] * bool(gone) + [f"with {', '.join(new[:3])}"] * bool(new) + changed[:3]
        )
        raise InputError(
            f"--workdir={config.workdir}: holds a sweep of another grid; this one is {'; '.join(told)}. Give another "
            f"--workdir, or the flags of that sweep ({config.workdir}/{FLAGS}) to go on with it."
        )
    if before["evaluation"] != mine["evaluation"]:
        changes = [
            f"--{n}={v} (now {mine['evaluation'].get(n)})"
            for n, v in before["evaluation"].items()
            if v != mine["evaluation"].get(n)
        ]
        raise InputError(
            f"--workdir={config.workdir}: its members are judged otherwise: {', '.join(changes)}. Give another --workdir, "
            "or those flags."
        )
    _check_store(config, before, mine)


def check_store(config: SweepConfig) -> None:
    """Raises `InputError` where the store is not what it was when the sweep began; it is opened anew."""
    before, store = json.loads((Path(config.workdir) / GRID).read_text(encoding="utf-8")), open_store(config.store)
    marks = {s: store.metadata(s).get("fingerprint", "") for s in before["fingerprints"] if s in store.sites}
    _check_store(config, before, {"rows": store.rows, "fingerprints": marks})


def _check_store(config: SweepConfig, before: dict[str, Any], now: dict[str, Any]) -> None:
    for name in ("rows", "fingerprints"):
        if before[name] != now[name]:
            raise InputError(
                f"--store={config.store}: has changed since {config.workdir} was begun ({name} {before[name]}, now "
                f"{now[name]}): its members would not compare. Give the store as it was ({before['store']}), or another "
                "--workdir."
            )


def read_results(path: Path) -> dict[str, Any]:
    """What sweep.json of a sweep's directory holds.

    Raises:
      InputError: it is damaged, or has no members.
    """
    file = path / SWEEP
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read as JSON ({error}). Run the same `jaxsae sweep` again.") from None
    members = content.get("members") if isinstance(content, dict) else None
    if not isinstance(members, list) or not all(isinstance(m, dict) for m in members):
        raise InputError(f"{file}: holds no list of members. Run the same `jaxsae sweep` again.")
    if not members:
        raise InputError(f"{file}: has no members. Run the `jaxsae sweep` again with a grid.")
    return content


def read_outcome(path: Path, name: str) -> dict[str, Any] | None:
    """How a member ended: {"status", "error", "seconds", "steps"}; None where it has not."""
    try:
        return json.loads((path / MEMBERS / name / OUTCOME).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None


def write_outcome(path: Path, name: str, status: str, error: str | None = None, **about: Any) -> None:
    """Says how a member ended; whole or not at all."""
    (path / MEMBERS / name).mkdir(parents=True, exist_ok=True)
    outcome = {"status": status, "error": error, "jaxsae": __version__, **about}
    write_text(path / MEMBERS / name / OUTCOME, json.dumps(outcome, indent=1) + "\n")
