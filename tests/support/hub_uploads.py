"""What the loopback hub answers to uploads: repositories created, files announced, large ones negotiated, commits.

The endpoints and bodies of https://huggingface.co/docs/hub/api and of Git LFS's batch protocol, basic transfer.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

from support.hub_repo import Repo, commit_of, is_lfs

if TYPE_CHECKING:
    from support.hub import LoopbackHub

OWNER = "me"
"""The owner of the tokens: of repositories that are named without one."""

_ROUTES = (
    (re.compile(r"/api/(repos/create|validate-yaml)()()"), 0),
    (re.compile(r"/(.+)\.git/info/lfs/objects/(batch)()"), 1),
    (re.compile(r"/api/models/(.+)/(preupload|commit)/([^/]+)"), 1),
)


def upload_request(path: str) -> tuple[str, str, str] | None:
    """What a POST is about: step, repository, revision; None for one that does not upload."""
    for pattern, step in _ROUTES:
        if match := pattern.fullmatch(path):
            groups = match.groups()
            return (groups[0], "", "") if step == 0 else (groups[1], groups[0], groups[2])
    return None


def answer(hub: LoopbackHub, step: str, repo: str, revision: str, body: bytes) -> tuple[int, Any]:
    """Status and JSON of a step of an upload."""
    if step == "validate-yaml":
        return 200, {"errors": [], "warnings": []}
    if step == "repos/create":
        return _create(hub, json.loads(body))
    held = hub.repos.get(("models", repo))
    if held is None:
        return 404, {"error": "Repository not found"}
    if step == "preupload":
        return 200, {"files": [_mode(file) for file in json.loads(body)["files"]]}
    if step == "batch":
        objects = [_action(hub, entry) for entry in json.loads(body)["objects"]]
        return 200, {"transfer": "basic", "objects": objects}
    return _commit(hub, held, repo, revision, body)


def _create(hub: LoopbackHub, asked: dict[str, Any]) -> tuple[int, Any]:
    name = f"{asked.get('organization') or OWNER}/{asked['name']}"
    there = ("models", name) in hub.repos
    if not there:
        hub.add(name, {}, private=asked.get("visibility") == "private")
    return 409 if there else 200, {"url": f"{hub.url}/{name}", "name": name}


def _mode(file: dict[str, Any]) -> dict[str, Any]:
    return {
        "path": file["path"],
        "uploadMode": "lfs" if is_lfs(file["path"]) else "regular",
        "shouldIgnore": False,
        "oid": None,
    }


def _action(hub: LoopbackHub, entry: dict[str, Any]) -> dict[str, Any]:
    """Where to put a large file; nothing for one that is here."""
    if entry["oid"] in hub.blobs:
        return entry
    return {**entry, "actions": {"upload": {"href": f"{hub.cdn_url}/cdn/{entry['oid']}"}}}


def _commit(hub: LoopbackHub, held: Repo, repo: str, revision: str, body: bytes) -> tuple[int, Any]:
    files = dict(held.revisions.get(revision, {}))
    for line in filter(None, body.splitlines()):
        entry = json.loads(line)
        value = entry["value"]
        if entry["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif entry["key"] == "lfsFile":
            if value["oid"] not in hub.blobs:
                return 400, {"error": f"{value['path']} was never uploaded"}
            files[value["path"]] = hub.blobs[value["oid"]]
        elif entry["key"] == "deletedFile":
            files.pop(value["path"], None)
    hub.add(repo, files, revision=revision)
    return 200, {"commitUrl": f"{hub.url}/{repo}/commit/{commit_of(files)}", "commitOid": commit_of(files)}
