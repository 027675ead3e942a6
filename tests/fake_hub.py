"""A hub of the few answers that huggingface_hub asks for to fetch a snapshot, in a thread of this process."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

COMMIT = "c" * 40


class FakeHub(ThreadingHTTPServer):
    """Repositories by name, path -> bytes; `gated` ones tell what they hold and give none of it.

    Attributes:
      url: where it is. fetched: the paths that were asked for in full.
    """

    daemon_threads = True

    def __init__(self, repositories: dict[str, dict[str, bytes]], gated: tuple[str, ...] = ()):
        super().__init__(("127.0.0.1", 0), _Answers)
        self.repositories, self.gated, self.fetched = repositories, gated, []
        self.url = f"http://127.0.0.1:{self.server_port}"


@contextmanager
def running(hub: FakeHub) -> Iterator[FakeHub]:
    """The hub, answering until the end of the block."""
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


def ask(monkeypatch, url: str, cache: str | Path) -> None:
    """Has huggingface_hub ask the hub at `url`, and keep what it fetches in `cache`."""
    for place in ("ENDPOINT", "_HF_DEFAULT_ENDPOINT"):
        monkeypatch.setattr(f"huggingface_hub.constants.{place}", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeHub

    def do_GET(self) -> None:
        path = unquote(self.path.split("?")[0]).strip("/").split("/")
        if path[:2] == ["api", "models"]:
            self._about("/".join(path[2:4]), *path[4:])
        else:  # OWNER/NAME/resolve/REVISION/FILE
            self._file("/".join(path[:2]), "/".join(path[4:]))

    do_HEAD = do_GET

    def _about(self, name: str, kind: str = "", revision: str = "main", *_: str) -> None:
        files = self.server.repositories.get(name)
        if files is None:
            return self._answer(401, b"{}", {"X-Error-Code": "RepoNotFound"})
        if revision not in ("main", COMMIT):
            return self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if kind == "tree":
            said = [{"type": "file", "path": p, "size": len(f), "oid": _tag(f)} for p, f in files.items()]
        else:
            said = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": p} for p in files]}
        return self._answer(200, json.dumps(said).encode(), {"Content-Type": "application/json"})

    def _file(self, name: str, path: str) -> None:
        if name in self.server.gated:
            return self._answer(403, b"", {"X-Error-Code": "GatedRepo"})
        content = self.server.repositories[name][path]
        if self.command == "GET":
            self.server.fetched.append(path)
        return self._answer(200, content, {"X-Repo-Commit": COMMIT, "ETag": f'"{_tag(content)}"'})

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for header, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(header, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_) -> None:
        pass


def _tag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
