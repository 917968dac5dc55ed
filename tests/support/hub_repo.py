"""Repositories of the loopback hub, and how the Hub's protocol describes them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any, Literal

Kind = Literal["models", "datasets"]

# As on the Hub: what a repository keeps with Git LFS, whatever its size.
LFS_PATTERNS = ("*.safetensors", "*.bin", "*.onnx", "*.parquet", "*.zip")


@dataclass
class Repo:
    """A repository: files by revision, and who may see it.

    Attributes:
        private: hidden, as if it did not exist, from all without a token of the hub.
        gated: its files are refused to everybody; what it holds can be listed.
        renamed_to: every request is redirected to this id.
    """

    revisions: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: bool = False
    gated: bool = False
    renamed_to: str | None = None

    def resolve(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Commit and files of a revision, given by name or by commit."""
        for name, files in self.revisions.items():
            commit = commit_of(files)
            if revision in (name, commit):
                return commit, files
        return None


def commit_of(files: Mapping[str, bytes]) -> str:
    """The commit that the hub gives to files: 40 hexadecimal digits that change when the files do."""
    digest = hashlib.sha1(usedforsecurity=False)
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + git_blob_id(files[name]).encode() + b"\0")
    return digest.hexdigest()


def git_blob_id(content: bytes) -> str:
    """The id that git gives to a file."""
    return hashlib.sha1(b"blob %d\0%s" % (len(content), content), usedforsecurity=False).hexdigest()


def is_lfs(name: str) -> bool:
    """Whether the hub keeps a file of that name with Git LFS."""
    return any(fnmatch(name, pattern) for pattern in LFS_PATTERNS)


def described(name: str, content: bytes) -> dict[str, Any]:
    """A file as trees and paths-info describe it."""
    entry: dict[str, Any] = {"type": "file", "path": name, "size": len(content), "oid": git_blob_id(content)}
    if is_lfs(name):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return entry


def split_revision(repo: Repo, rest: list[str]) -> tuple[str, str]:
    """Part revision from path: a revision may hold slashes, quoted or not."""
    text = "/".join(rest)
    for name in sorted(repo.revisions, key=len, reverse=True):
        if text == name or text.startswith(f"{name}/"):
            return name, text[len(name) + 1 :]
    revision, _, path = text.partition("/")
    return revision, path


def listed(files: dict[str, bytes], names: list[str]) -> list[dict[str, Any]]:
    """Files, and folders that hold files, as trees list them; others are left out."""
    entries = []
    for name in names:
        if name in files:
            entries.append(described(name, files[name]))
        elif any(other.startswith(f"{name}/") for other in files):
            entries.append({"type": "directory", "path": name, "size": 0, "oid": git_blob_id(name.encode())})
    return entries


def info(kind: Kind, name: str, repo: Repo, commit: str, files: dict[str, bytes]) -> dict[str, Any]:
    siblings = []
    for path, content in files.items():
        sibling: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": git_blob_id(content)}
        if is_lfs(path):
            sibling["lfs"] = {
                "sha256": hashlib.sha256(content).hexdigest(),
                "size": len(content),
                "pointerSize": 134,
            }
        siblings.append(sibling)
    return {
        "_id": hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()[:24],
        "id": name,
        "sha": commit,
        "private": repo.private,
        "gated": "manual" if repo.gated else False,
        "disabled": False,
        "lastModified": "2024-01-01T00:00:00.000Z",
        "createdAt": "2024-01-01T00:00:00.000Z",
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": siblings,
        **({"modelId": name} if kind == "models" else {}),
    }
