"""Directories by name: one on the disk, or a folder of a repository on the Hugging Face hub."""

import dataclasses
import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from jaxsae.errors import InputError, reraise_if_disk_full

ENDINGS = ("*.safetensors", "*.npz", "*.json", "*.yaml", "ae.pt")  # never *.bin or *.pkl, which could run code
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_REVISION = r"refs/(?:pr|convert)/[^/@?]+|[^/@?]+"
_NAME = re.compile(rf"({_PART}/{_PART})((?:/[^/@?*\[\]]+)*)/?(?:@([^@?]+))?")
# A revision before the path, as fsspec has it.
_URL = re.compile(rf"hf://({_PART}/{_PART})@({_REVISION})((?:/[^/@?*\[\]]+)*)/?")
_SHOWN = 12
PATIENCE = 10.0  # seconds


@dataclasses.dataclass(frozen=True)
class HubName:
    """A folder, or a file, of a repository: `repo` OWNER/NAME, `inside` its path there, "" at the top."""

    repo: str
    inside: str = ""
    revision: str | None = None

    @classmethod
    def of(cls, text: str) -> "HubName | None":
        """What OWNER/NAME[/PATH][@REVISION] or hf://OWNER/NAME[@REVISION][/PATH][?revision=REVISION] names; else None."""
        if match := _URL.fullmatch(text):
            repo, late, inside = match.groups()
        elif match := _NAME.fullmatch(text.removeprefix("hf://").partition("?revision=")[0]):
            repo, inside, late = match.groups()
        else:
            return None
        if {".", ".."} & set(inside.split("/")):
            return None
        return cls(repo, inside.strip("/"), text.partition("?revision=")[2] or late)

    def __str__(self):
        return f"{self.repo}{f'/{self.inside}' if self.inside else ''}{f'@{self.revision}' if self.revision else ''}"


def directory_of(name: str, flag: str = "--input", endings: tuple[str, ...] = ENDINGS) -> Path:
    """The directory that a name means: a path on the disk as it is, else a hub id, whose files are fetched.

    A hub id is OWNER/NAME, OWNER/NAME/FOLDER/... or either of them with @REVISION, `hf://` before it or not. Of that folder
    alone safetensors, npz, JSON, YAML and ae.pt files are fetched, into huggingface_hub's own cache; what is there already
    is used without a network.

    Args:
      flag: what named it, for messages. endings: patterns of the files that are fetched.

    Raises:
      InputError: no such directory; huggingface_hub is not installed; no network, and the files are not in the cache; no
        such repository, revision or folder; a repository that asks for terms to be accepted; a folder without files of
        those kinds.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise InputError(f"{flag}={name}: is a file; name the directory that it is in.")
    hub_name = None if name.startswith((".", "/", "~")) else HubName.of(name)
    if hub_name is None:
        raise InputError(
            f"{flag}={name}: no such directory. Name one, or a hub id such as OWNER/NAME/FOLDER or OWNER/NAME@REVISION."
        )
    return fetch(hub_name, endings, flag)


def file_of(name: HubName, flag: str = "--input") -> Path:
    """One file of a repository, fetched.

    Raises:
      InputError: as `directory_of`.
    """
    folder, _, file = name.inside.rpartition("/")
    return fetch(dataclasses.replace(name, inside=folder), (file,), flag) / file


def fetch(name: HubName, endings: tuple[str, ...], flag: str = "--input") -> Path:
    """Fetches the files of a folder, without those of the folders in it.

    Args:
      endings: patterns of their names.

    Returns:
      The folder in the cache.

    Raises:
      InputError: as `directory_of`.
    """
    hub, told = import_hub(), f"{flag}={name}"
    away = _why_away(name, told, hub)
    inside = f"{name.inside}/" if name.inside else ""
    try:
        snapshot = hub.snapshot_download(
            name.repo,
            revision=name.revision,
            allow_patterns=[inside + ending for ending in endings],
            ignore_patterns=[f"{inside}*/*"],  # a pattern's * matches / too
            library_name="jaxsae",
            local_files_only=bool(away),
        )
    except Exception as error:  # of whichever HTTP library that release is built on
        reraise_if_disk_full(error, told)
        _raise_if_known(error, name, told, hub)  # the names of a gated repository's files are open to all
        raise InputError(f"{told}: {_unreachable(hub, away or _line(error))}") from None
    folder = Path(snapshot, name.inside)
    if not folder.is_dir() or not any(fnmatch(one.name, e) for one in folder.iterdir() for e in endings):
        raise InputError(f"{told}: {_unreachable(hub, away) if away else _what_is_there(name, endings, hub)}")
    return folder


def import_hub(what: str = "hub ids need", other: str = "; or name a directory") -> Any:
    """huggingface_hub.

    Raises:
      InputError: it is not installed; says that `what` it, and what else there is.
    """
    try:
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError:
        raise InputError(f"{what} huggingface_hub: pip install 'jaxsae[hub]'{other}.") from None
    return huggingface_hub


def _why_away(name: HubName, told: str, hub: Any) -> str:
    """Why the hub cannot be reached; "" where it can.

    Asked first, with a limit: snapshot_download itself waits without one, or tries again for half a minute.

    Raises:
      InputError: it answers that there is no such repository or revision, or that it may not be read.
    """
    try:
        hub.HfApi().repo_info(name.repo, revision=name.revision, timeout=PATIENCE)
    except Exception as error:  # of whichever HTTP library that release is built on
        _raise_if_known(error, name, told, hub)
        return _line(error)
    return ""


def _raise_if_known(error: Exception, name: HubName, told: str, hub: Any) -> None:
    """Raises `InputError` where the hub answered why not."""
    known, repo, where = hub.errors, name.repo, hub.constants.ENDPOINT
    if isinstance(error, known.GatedRepoError):
        how = f"accept its terms at {where}/{repo}, then log in with `hf auth login` or set HF_TOKEN"
        raise InputError(f"{told}: {repo} is gated: {how}.") from None
    if isinstance(error, known.RepositoryNotFoundError):
        private = "or it is private and opens with an HF_TOKEN that is not set or another's"
        raise InputError(f"{told}: no such directory here and no repository {repo} at {where}, {private}.") from None
    if isinstance(error, known.RevisionNotFoundError):
        fix = "Name a branch, a tag or a commit"
        raise InputError(f"{told}: {repo} has no revision {name.revision or 'main'}. {fix}.") from None
    if isinstance(error, known.HFValidationError):
        raise InputError(f"{told}: no such directory, and no hub id ({_line(error)}).") from None


def _unreachable(hub: Any, why: str) -> str:
    return (
        f"no such directory here, and {hub.constants.ENDPOINT} cannot be reached ({why}) while the cache lacks its files. "
        "Fetch them where there is a network, or name a directory."
    )


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0][:200]


def _what_is_there(name: HubName, endings: tuple[str, ...], hub: Any) -> str:
    """That a folder has no files to read, and what its repository has in its place."""
    wanted = f"has no files {', '.join(endings)}"
    try:
        paths = hub.HfApi().list_repo_files(name.repo, revision=name.revision)
    except Exception as error:
        return f"{wanted}, and what its repository has cannot be told ({_line(error)})."
    inside = f"{name.inside}/" if name.inside else ""
    if not any(path.startswith(inside) for path in paths):
        wanted, inside = f"{name.repo} has no folder {name.inside}", ""
    there = sorted({path.removeprefix(inside).rpartition("/")[0] for path in paths if path.startswith(inside)} - {""})
    if not there:
        return f"{wanted}; it has: {', '.join(paths[:_SHOWN]) or 'nothing'}."
    more = ", ..." if len(there) > _SHOWN else ""
    return f"{wanted}. Name one of its folders: {', '.join(inside + one for one in there[:_SHOWN])}{more}."
