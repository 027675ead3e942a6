"""An export on the Hugging Face hub: what can be refused is refused before the export is made, and then one commit is."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxsae.errors import InputError
from jaxsae.exchange.hub import HubName, import_hub
from jaxsae.progress import say
from jaxsae.version import __version__

_MAKES = ("write", "admin", "contributor")  # roles in an organisation, and of a token, that may push
_HTTP = ("httpx", "httpcore", "requests", "urllib3")  # one of which a release of huggingface_hub is built on


@dataclasses.dataclass(frozen=True)
class Target:
    """Where an export goes.

    Attributes:
      name: the repository, and the branch where one is named. private: whether it is, where it is made.
      stale: files of an earlier export there, which the new one replaces or removes.
    """

    name: HubName
    private: bool = False
    stale: tuple[str, ...] = ()


def name_of(push: str) -> HubName:
    """The repository that `--push` names.

    Raises:
      InputError: it is no OWNER/NAME or OWNER/NAME@BRANCH, or names a folder; huggingface_hub is not installed.
    """
    hub, name = _hub(), HubName.of(push)
    from huggingface_hub.utils import validate_repo_id

    if name is None or name.inside:
        raise InputError(f"--push={push}: name a repository, OWNER/NAME, or OWNER/NAME@BRANCH.")
    try:
        validate_repo_id(name.repo)
    except hub.errors.HFValidationError as error:
        raise InputError(f"--push={push}: is no name that the hub takes ({_line(error)}).") from None
    return name


def ready(name: HubName, private: bool, overwrite: bool, card: str, known: frozenset[str]) -> Target:
    """Asks the hub whether the push will be taken, and makes nothing.

    Args:
      overwrite: whether files of an earlier export may be replaced. card: the model card. known: names of files that exports
        write.

    Raises:
      InputError: no token, one that may not write there, no network, files in the way, a card that the hub does not take.
    """
    hub = _hub()
    told = f"--push={name}"
    who = _asked(lambda: _api().whoami(), told, hub)
    _check_rights(who, name, told)
    try:
        _asked(lambda: hub.ModelCard(card).validate(), told, hub)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{told}: the hub does not take the card ({_line(error)}). See --licence.") from None
    there = _files_there(name, told, hub)
    if there and not overwrite:
        shown = ", ".join(there[:6]) + (", ..." if len(there) > 6 else "")
        raise InputError(
            f"{told}: has files already ({shown}). Name another repository or branch, or replace an export there with "
            "--overwrite."
        )
    return Target(name, private, tuple(file for file in there if file.rpartition("/")[2] in known))


def send(target: Target, folder: Path, message: str, kept: str) -> str:
    """Puts the files of `folder` on the hub in one commit.

    Args:
      kept: where the export stands if the hub does not take it; "" where it does not.

    Returns:
      Its address there.

    Raises:
      InputError: the hub did not take it; nothing of it is there then.
    """
    hub, api = _hub(), _api()
    repo, branch, told = target.name.repo, target.name.revision, f"--push={target.name}"
    new = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}

    def push() -> Any:
        api.create_repo(repo, private=target.private or None, exist_ok=True)
        if branch:
            api.create_branch(repo, branch=branch, exist_ok=True)
        return api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            revision=branch,
            commit_message=message,
            delete_patterns=sorted({*target.stale} - new) or None,
        )

    say(f"{told}: sending {len(new)} files ...")
    again = f" The export stands in {kept}: `hf upload {repo} {kept}` sends it." if kept else ""
    return str(_asked(push, told, hub, again).commit_url)


def _hub() -> Any:
    return import_hub("--push needs", "")


def _api() -> Any:
    return _hub().HfApi(library_name="jaxsae", library_version=__version__)


def _asked(ask: Callable[[], Any], told: str, hub: Any, more: str = "") -> Any:
    """What the hub answers, or why not in one message."""
    known, where = hub.errors, hub.constants.ENDPOINT
    try:
        return ask()
    except known.LocalTokenNotFoundError:
        why = "no token. Log in with `hf auth login`, or set HF_TOKEN to one that may write"
    except known.OfflineModeIsEnabled:
        why = "HF_HUB_OFFLINE is set. Unset it, or write the export alone with --dry_run"
    except known.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status == 401:
            why = f"{where} does not take the token. Log in again with `hf auth login`, or set HF_TOKEN"
        elif status in (403, 404):
            why = f"the token may not write there ({_line(error)}). Take one that may, or another owner"
        else:
            why = f"{where} answered: {_line(error)}"
    except Exception as error:
        if not type(error).__module__.startswith(_HTTP) and not isinstance(error, OSError):
            raise
        why = f"{where} cannot be reached ({_line(error)}). Push where there is a network, or look with --dry_run"
    raise InputError(f"{told}: {why}.{more}") from None


def _check_rights(who: dict[str, Any], name: HubName, told: str) -> None:
    """Refuses what the hub says that the token may not do; of fine-grained ones it says it when it is tried."""
    owner = name.repo.partition("/")[0]
    token = ((who.get("auth") or {}).get("accessToken") or {}).get("role")
    if token == "read":
        raise InputError(f"{told}: the token may read alone. Make one that may write: {_tokens()}.")
    roles = {org.get("name"): org.get("roleInOrg") for org in who.get("orgs") or []}
    if owner == who.get("name"):
        return
    if owner not in roles:
        names = ", ".join(filter(None, [who.get("name"), *roles]))
        raise InputError(f"{told}: the token is of {who.get('name')}, who may push to {names} alone.")
    if roles[owner] not in (None, *_MAKES):
        raise InputError(f"{told}: {who.get('name')} has the role {roles[owner]} in {owner}, which may not push.")


def _tokens() -> str:
    return f"{_hub().constants.ENDPOINT}/settings/tokens"


def _files_there(name: HubName, told: str, hub: Any) -> list[str]:
    """The files of the repository, or none where there is no such repository or branch yet."""

    def ask() -> list[str]:
        try:
            return _api().list_repo_files(name.repo, revision=name.revision)
        except (hub.errors.RepositoryNotFoundError, hub.errors.RevisionNotFoundError):
            return []

    return sorted({*_asked(ask, told, hub)} - {".gitattributes"})


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
