"""A server that takes pushes as the hub does: whoami, a card's check, files there, a repository, a branch, a commit."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKENS = {"hf_writes": "write", "hf_reads": "read"}


class FakePush:
    """What it was asked and what it has.

    Attributes:
      asked: methods and paths of all requests. commits: of each the files that it adds {path: bytes} and those that it
      deletes, its message and its branch. repos: {OWNER/NAME: {path: bytes}}. refuses: (part of a path, status, text).
    """

    def __init__(self):
        self.asked: list[tuple[str, str]] = []
        self.commits: list[dict[str, Any]] = []
        self.repos: dict[str, dict[str, bytes]] = {}
        self.branches: list[str] = []
        self.private: bool | None = None
        self.refuses: list[tuple[str, int, str]] = []
        self.url = ""

    def answer(self, method: str, path: str, token: str, body: bytes) -> tuple[int, Any]:
        """A status, and what it says in JSON."""
        self.asked.append((method, path))
        for part, status, text in self.refuses:
            if part in path:
                return status, text
        if path == "/api/validate-yaml":
            known = "license: made-up" not in json.loads(body)["content"]
            return (
                (200, {"errors": [], "warnings": []}) if known else (400, '"license" must be one of [apache-2.0, mit]')
            )
        if token not in TOKENS:
            return 401, {"error": "Invalid username or password."}
        if path == "/api/whoami-v2":
            orgs = [{"name": "lab", "roleInOrg": "write"}, {"name": "club", "roleInOrg": "read"}]
            return 200, {"name": "me", "orgs": orgs, "auth": {"accessToken": {"role": TOKENS[token]}}}
        if path == "/api/validate-yaml":
            known = "license: made-up" not in json.loads(body)["content"]
            return (
                (200, {"errors": [], "warnings": []}) if known else (400, '"license" must be one of [apache-2.0, mit]')
            )
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            if name in self.repos:
                return 409, {"error": "You already created this model repo", "url": f"{self.url}/{name}"}
            self.repos[name], self.private = {}, bool(asked.get("private") or asked.get("visibility") == "private")
            return 200, {"url": f"{self.url}/{name}"}
        owner, name, verb, *rest = path.removeprefix("/api/models/").partition("?")[0].split("/")
        repo = f"{owner}/{name}"
        if repo not in self.repos:
            return 404, {"error": "Repository not found"}
        if verb == "tree":
            files = self.repos[repo].items()
            return 200, [{"type": "file", "path": p, "size": len(b), "oid": "0" * 40} for p, b in files]
        if verb == "branch":
            self.branches.append(rest[0])
            return 200, {}
        if verb == "preupload":
            wanted = json.loads(body)["files"]
            return 200, {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in wanted]}
        assert verb == "commit", path
        return self._commit(repo, rest[0], [json.loads(line) for line in body.splitlines()])

    def _commit(self, repo: str, branch: str, lines: list[dict]) -> tuple[int, Any]:
        of = lambda key: [line["value"] for line in lines if line["key"] == key]
        files = {file["path"]: base64.b64decode(file["content"]) for file in of("file")}
        deleted = [file["path"] for file in of("deletedFile")]
        self.commits.append(
            {"files": files, "deleted": deleted, "branch": branch, "message": of("header")[0]["summary"]}
        )
        self.repos[repo] = {p: b for p, b in self.repos[repo].items() if p not in deleted} | files
        return 200, {"success": True, "commitOid": "c" * 40, "commitUrl": f"{self.url}/{repo}/commit/{'c' * 40}"}


@contextmanager
def serving(fake: FakePush) -> Iterator[FakePush]:
    """Answers requests while it is open."""

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            size = self.headers.get("Content-Length")
            body = self.rfile.read(int(size)) if size else self._chunks()
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            status, said = fake.answer(self.command, self.path, token, body)
            text = (said if isinstance(said, str) else json.dumps(said)).encode()
            self.send_response(status)
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def _chunks(self) -> bytes:
            parts = []
            while "chunked" in self.headers.get("Transfer-Encoding", "") and (length := int(self.rfile.readline(), 16)):
                parts.append(self.rfile.read(length))
                self.rfile.readline()
            return b"".join(parts)

        do_GET = do_POST = do_HEAD = _do

        def log_message(self, *told) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
