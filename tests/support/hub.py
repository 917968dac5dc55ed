"""A small Hugging Face Hub on loopback, for the real `huggingface_hub`, `transformers` and `datasets`.

    with LoopbackHub() as hub:
        hub.add("owner/model", {"config.json": b"{}", "model.safetensors": weights})
        hub.add("owner/data", {"train.csv": b"..."}, kind="datasets")
        hub.add("owner/data", {"default/train/0000.parquet": b"..."}, "datasets", "refs/convert/parquet")
        hub.faults.append(Fault("/resolve/", status=503, times=1))
        subprocess.run([...], env=hub.environment(tmp_path))

A token in `hub.tokens` may write: repositories are created, files committed, large ones put to the second port first
(Git LFS's batch protocol; clients use the Hub's newer storage only where HF_HUB_DISABLE_XET is not set).

It speaks repository information, refs, trees, paths-info and resolve, with the headers by which clients
recognize commits and files; large files go through a redirect to a second port, as to the real Hub's CDN.
`hub.requests` lists the requests. Clients read HF_ENDPOINT when they are imported, so a test of
`transformers` or `datasets` runs them in a process of its own; `sparsezoo` reads it on every call.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from support import hub_uploads as uploads
from support.hub_repo import Kind, Repo, commit_of, git_blob_id, info, is_lfs, listed, split_revision
from support.hub_uploads import upload_request

_MARKERS = ("revision", "refs", "tree", "paths-info", "resolve")


@dataclass
class Fault:
    """A failure injected into requests.

    Attributes:
        path: the fault strikes requests whose path contains this.
        status: respond with this status rather than the file.
        headers: to send along, such as Retry-After.
        delay: seconds to wait before answering.
        cut_after: send that many bytes of the body, then break the connection.
        corrupt: change one byte of the body; its length and the stated checksums stay.
        times: how many requests it strikes; None for all.
    """

    path: str
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut_after: int | None = None
    corrupt: bool = False
    times: int | None = None


class LoopbackHub:
    """The server. A context manager: it listens while the block runs.

    Attributes:
        url: what to set HF_ENDPOINT to.
        repos: by kind and id.
        faults: strike in order; the first whose path matches is taken.
        tokens: the valid access tokens, which private repositories require.
        requests: "METHOD PATH" of every request so far, the CDN's too.
        ranges: the Range header of those that had one.
    """

    def __init__(self) -> None:
        self.repos: dict[tuple[Kind, str], Repo] = {}
        self.faults: list[Fault] = []
        self.tokens: set[str] = set()
        self.requests: list[str] = []
        self.ranges: list[str] = []
        self.blobs: dict[str, bytes] = {}
        self._servers = [self._listen(_HubHandler), self._listen(_CdnHandler)]
        self.url, self.cdn_url = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)

    def add(
        self,
        repo: str,
        files: Mapping[str, bytes],
        kind: Kind = "models",
        revision: str = "main",
        **access: Any,
    ) -> str:
        """Put files into a revision of a repository, in the place of those that it had; returns the commit.

        Args:
            access: attributes of `Repo` to set: private, gated, renamed_to.
        """
        held = self.repos.setdefault((kind, repo), Repo())
        held.revisions[revision] = dict(files)
        for name, value in access.items():
            setattr(held, name, value)
        self.blobs |= {hashlib.sha256(content).hexdigest(): content for content in files.values()}
        return commit_of(files)

    def environment(self, home: Path) -> dict[str, str]:
        """Variables for a process that uses this hub and keeps its caches under `home`."""
        return {
            **os.environ,
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home / "huggingface"),
            "HF_HUB_CACHE": str(home / "huggingface" / "hub"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # `datasets` sends them to another server
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",  # the Hub's newer storage, which is not served here
            "HF_TOKEN": "",
            "SPARSEZOO_HOME": str(home / "zoo"),
            "NO_PROXY": "127.0.0.1",
        }

    def fault_for(self, path: str) -> Fault | None:
        """The fault that strikes a request of this path, counted down."""
        for fault in self.faults:
            if fault.path in path and fault.times != 0:
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None

    def _listen(self, handler: type[_Handler]) -> ThreadingHTTPServer:
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (handler,), {"hub": self}))
        server.daemon_threads = True
        server.block_on_close = False
        return server

    def __enter__(self) -> LoopbackHub:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """What hub and CDN share: faults, ranges, sending."""

    hub: LoopbackHub
    protocol_version = "HTTP/1.1"
    # A test must not wait for connections that a client keeps open.
    timeout = 30
    fault: Fault | None = None

    def do_GET(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        self.hub.ranges += self.headers.get_all("Range", [])
        self.body = self._read_body()
        self.fault = fault = self.hub.fault_for(self.path)
        if fault is not None and fault.delay:
            time.sleep(fault.delay)
        try:
            if fault is not None and fault.status is not None:
                self.send(fault.status, b"", fault.headers)
            else:
                self.respond(urlsplit(self.path).path)
        except ConnectionError:
            # The client has given up waiting and left.
            self.close_connection = True

    do_HEAD = do_GET  # noqa: N815
    do_POST = do_GET  # noqa: N815
    do_PUT = do_GET  # noqa: N815

    def respond(self, path: str) -> None:
        raise NotImplementedError

    def _read_body(self) -> bytes:
        """A body of known length, or in chunks (RFC 9112, 7.1), as clients send files."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def send_json(self, value: Any) -> None:
        self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def send_error_code(self, status: int, code: str, message: str, commit: str | None = None) -> None:
        """An error in the Hub's format: its clients read the code from a header."""
        headers = {"X-Error-Code": code, "X-Error-Message": message}
        self.send(status, b"", headers | ({"X-Repo-Commit": commit} if commit else {}))

    def send_content(self, content: bytes, headers: dict[str, str]) -> None:
        """A file, or the requested range of it."""
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}
        requested_range = self.headers.get("Range", "")
        if not requested_range.startswith("bytes="):
            self.send(200, content, headers)
            return
        first, _, last = requested_range.removeprefix("bytes=").partition("-")
        total = len(content)
        start = int(first) if first else total - int(last)
        stop = min(int(last) + 1, total) if first and last else total
        if start >= total:
            self.send(416, b"", {"Content-Range": f"bytes */{total}"})
            return
        self.send(206, content[start:stop], {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{total}"})

    def send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        fault = self.fault
        if fault is not None and fault.corrupt and body:
            body = bytes([body[0] ^ 1]) + body[1:]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault is not None and fault.cut_after is not None:
            self.wfile.write(body[: fault.cut_after])
            self.close_connection = True
            return
        self.wfile.write(body)


class _CdnHandler(_Handler):
    """The second host, to which large files are redirected: `/cdn/SHA256`.

    Like the Hub's storage, it refuses requests with a token: tokens must not be sent to other hosts.
    """

    def respond(self, path: str) -> None:
        if "Authorization" in self.headers:
            self.send(400, b"", {})
            return
        sha256 = path.removeprefix("/cdn/")
        if self.command == "PUT":
            damaged = hashlib.sha256(self.body).hexdigest() != sha256
            self.hub.blobs.setdefault(sha256, self.body)
            self.send(400 if damaged else 200, b"", {})
            return
        content = self.hub.blobs.get(sha256)
        if content is None:
            self.send(404, b"", {})
        else:
            self.send_content(content, {"ETag": f'"{sha256}"'})


class _HubHandler(_Handler):
    """The Hub itself: `/api/KIND/ID/...` and `/[KIND/]ID/resolve/REVISION/FILE`."""

    def respond(self, path: str) -> None:
        if self.command == "POST" and (wanted := upload_request(path)):
            self._write(wanted)
            return
        parts = [part for part in path.split("/") if part]
        api = parts[:1] == ["api"]
        parts = parts[1:] if api else parts
        kind: Kind = "datasets" if parts[:1] == ["datasets"] else "models"
        if parts[:1] == [kind]:
            parts = parts[1:]
        at = next((index for index, part in enumerate(parts) if part in _MARKERS), len(parts))
        name, marker, rest = "/".join(parts[:at]), parts[at] if at < len(parts) else "", parts[at + 1 :]
        repo = self.hub.repos.get((kind, name))
        if self._refused(repo):
            return
        assert repo is not None
        if repo.renamed_to:
            self.send(307, b"", {"Location": self.path.replace(f"/{name}", f"/{repo.renamed_to}", 1)})
        elif marker == "refs":
            self.send_json(self._refs(repo))
        else:
            self._answer_revision(kind, name, repo, marker, [unquote(part) for part in rest])

    def _write(self, wanted: tuple[str, str, str]) -> None:
        """A step of an upload, for which the client needs a token that is known here."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        if token not in self.hub.tokens:
            self.send(401, b"", {"X-Error-Message": "Invalid username or password."})
            return
        status, answer = uploads.answer(self.hub, *wanted, self.body)
        self.send(status, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _refused(self, repo: Repo | None) -> bool:
        """Refuse access; without a token, missing and private repositories look the same."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        if token and token not in self.hub.tokens:
            self.send(401, b"", {"X-Error-Message": "Invalid credentials in Authorization header"})
            return True
        if repo is None or (repo.private and not token):
            self.send_error_code(404 if token else 401, "RepoNotFound", "Repository not found")
            return True
        return False

    def _answer_revision(self, kind: Kind, name: str, repo: Repo, marker: str, rest: list[str]) -> None:
        revision, path = split_revision(repo, rest) if marker else ("main", "")
        resolved = repo.resolve(revision)
        if resolved is None:
            self.send_error_code(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        commit, files = resolved
        if marker == "resolve":
            self._resolve(repo, commit, files, path)
        elif marker == "tree":
            recursive = "true" in parse_qs(urlsplit(self.path).query.lower()).get("recursive", [])
            self._tree(files, path, recursive, commit)
        elif marker == "paths-info":
            self.send_json(listed(files, self._asked_paths()))
        else:
            self.send_json(info(kind, name, repo, commit, files))

    def _resolve(self, repo: Repo, commit: str, files: dict[str, bytes], path: str) -> None:
        if repo.gated:
            self.send_error_code(403, "GatedRepo", "Access to this repository is restricted")
            return
        content = files.get(path)
        if content is None:
            self.send_error_code(404, "EntryNotFound", "Entry not found", commit)
            return
        headers = {"X-Repo-Commit": commit}
        if not is_lfs(path):
            self.send_content(content, {**headers, "ETag": f'"{git_blob_id(content)}"'})
            return
        sha256 = hashlib.sha256(content).hexdigest()
        headers |= {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(content))}
        self.send(302, b"", {**headers, "Location": f"{self.hub.cdn_url}/cdn/{sha256}"})

    def _tree(self, files: dict[str, bytes], folder: str, recursive: bool, commit: str) -> None:
        inside = {name for name in files if not folder or name.startswith(f"{folder}/")}
        if folder and not inside:
            self.send_error_code(404, "EntryNotFound", "Entry not found", commit)
            return
        depth = folder.count("/") + 1 if folder else 0
        names = inside | {
            "/".join(parts[:end])
            for parts in (name.split("/") for name in inside)
            for end in range(1, len(parts))
        }
        names = {
            name for name in names if name.count("/") >= depth and (recursive or name.count("/") == depth)
        }
        self.send_json(listed(files, sorted(names)))

    def _asked_paths(self) -> list[str]:
        if "json" in self.headers.get("Content-Type", ""):
            return list(json.loads(self.body)["paths"])
        return parse_qs(self.body.decode()).get("paths", [])

    @staticmethod
    def _refs(repo: Repo) -> dict[str, Any]:
        def under(prefix: str) -> list[dict[str, str]]:
            return [
                {"name": name.removeprefix(prefix), "ref": name, "targetCommit": commit_of(files)}
                for name, files in repo.revisions.items()
                if name.startswith(prefix)
            ]

        branches = [
            {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit_of(files)}
            for name, files in repo.revisions.items()
            if not name.startswith("refs/")
        ]
        return {"branches": branches, "converts": under("refs/convert/"), "tags": [], "pullRequests": []}
