"""Where a store lies: a bare path, `file://`, `gs://`, `s3://` or any other TensorStore kvstore URL."""

import os
from pathlib import Path
from typing import Any

import tensorstore as ts

from jaxsae.errors import InputError
from jaxsae.paths import absolute

# One context for the whole process: shared thread and cache limits, and one `memory://` for tests.
CONTEXT = ts.Context()
ANSWER_SECONDS = 30.0  # in which a server must say something
_LOCK_SUFFIX = ".__lock"  # what a killed TensorStore writer leaves behind


def kvstore_spec(url: str | os.PathLike, below: str = "") -> dict[str, Any]:
    """The kvstore of the directory `below` under `url`; its path ends in a slash.

    Raises:
      InputError: a URL that TensorStore does not know.
    """
    text = os.fspath(url)
    if not text:
        raise InputError("--store= is empty: give a directory, or a file://, gs:// or s3:// URL.")
    if "://" not in text:
        spec = {"driver": "file", "path": absolute(text, new=True)}
    else:
        try:
            spec = ts.KvStore.Spec(text).to_json()
        except ValueError as error:
            reason = str(error).split(":", 1)[-1].strip()
            raise InputError(
                f"--store={text}: not a kvstore URL ({reason}). Use a path, file://, gs:// or s3://."
            ) from None
    if spec["driver"] == "s3":
        spec |= _s3_from_environment()
    path = spec.get("path", "").rstrip("/")
    root = f"{path}/" if path or spec["driver"] == "file" else ""  # the root of a bucket has no slash
    spec["path"] = root + (f"{below.strip('/')}/" if below else "")
    return spec


def _s3_from_environment() -> dict[str, Any]:
    """What other S3 tools read from the environment and TensorStore does not: another server, its region.

    Credentials are named by where they are, never by what they are: no spec holds them.
    """
    given = lambda *names: next((os.environ[n] for n in names if os.environ.get(n)), None)
    endpoint, region = given("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"), given("AWS_REGION", "AWS_DEFAULT_REGION")
    spec = {"endpoint": endpoint.rstrip("/"), "aws_region": region or "us-east-1"} if endpoint else {}
    if given("AWS_ACCESS_KEY_ID"):
        spec["aws_credentials"] = {"type": "environment"}
    return spec


def same_place(one: str, other: str) -> bool:
    """Whether two ways to write a store mean the same one: relative, absolute, with a slash at the end."""
    return one == other or (bool(one and other) and kvstore_spec(one) == kvstore_spec(other))


def open_kvstore(url: str | os.PathLike) -> ts.KvStore:
    """The kvstore at `url`; nothing needs to exist there yet.

    Raises:
      InputError: it cannot be opened, or a server that holds it does not answer.
    """
    spec = kvstore_spec(url)
    try:
        kvstore = ts.KvStore.open(spec, context=CONTEXT).result()
    except ValueError as error:
        raise InputError(f"--store={url}: cannot be opened ({error})") from None
    if spec["driver"] not in ("file", "memory"):
        _check_answers(kvstore, url, spec)
    return kvstore


def _check_answers(kvstore: ts.KvStore, url: str | os.PathLike, spec: dict[str, Any]) -> None:
    """One question with a time limit: TensorStore itself tries again for a quarter of an hour, as a long run should."""
    try:
        kvstore.read("zarr.json").result(timeout=ANSWER_SECONDS)
    except TimeoutError:
        endpoint = f" {spec['endpoint']}" if "endpoint" in spec else ""
        raise InputError(
            f"--store={url}: the server{endpoint} does not answer within {ANSWER_SECONDS:g} s. See that this host reaches "
            "it, and that AWS_ENDPOINT_URL, where it is set, names it."
        ) from None
    except ValueError:
        pass  # an answer, to be told by whoever needs what is there


def local_path(url: str | os.PathLike) -> Path | None:
    """The directory of a store on a local file system, None for any other."""
    spec = kvstore_spec(url)
    return Path(spec["path"]) if spec["driver"] == "file" else None


def check_usable(url: str | os.PathLike) -> None:
    """Raises `InputError` where a local path holds something that is not a store."""
    path = local_path(url)
    if path is None or not path.exists():
        return
    if not path.is_dir():
        raise InputError(f"--store={url}: is a file; a store is a directory. Name another place.")
    names = [entry.name for entry in os.scandir(path) if not entry.name.endswith(_LOCK_SUFFIX)]
    if names and "zarr.json" not in names:
        raise InputError(
            f"--store={url}: the directory is not empty and not a store (it holds {min(names)}). Name another place."
        )
