"""Names that come from elsewhere never lead out of the folder that they are meant for."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sparsezoo import ZooError, pypi
from sparsezoo.hub_download import list_files
from sparsezoo.hub_repo import HubRepo
from sparsezoo.resolve import local_path
from sparsezoo.stub import parse_stub

COMMIT = "a" * 40
OUTSIDE = ["../x", "a/../../x", "/etc/x", "..\\x", "C:\\x", "a//x", "a\0b", ""]


def listed(monkeypatch: pytest.MonkeyPatch, sha: str, *siblings: Any) -> Any:
    """What `list_files` makes of this answer of the Hub."""
    answer = SimpleNamespace(sha=sha, siblings=[*siblings])
    api = SimpleNamespace(repo_info=lambda *arguments, **keywords: answer)
    monkeypatch.setattr(HubRepo, "api", lambda self: api)
    return list_files(HubRepo("a/b", "a/b"), None)


def file(name: str, sha256: str | None = None) -> Any:
    return SimpleNamespace(rfilename=name, lfs=SimpleNamespace(sha256=sha256) if sha256 else None)


def test_what_the_hub_may_state(monkeypatch: pytest.MonkeyPatch):
    names = ["model.safetensors", "default/train/0000.parquet", ".gitattributes", "a b.txt", "..x"]
    assert [*listed(monkeypatch, COMMIT, *map(file, names))[1]] == names


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_file_outside_is_refused(name: str, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ZooError, match="Nothing of it was used"):
        listed(monkeypatch, COMMIT, file("config.json"), file(name))


@pytest.mark.parametrize("sha", ["../../x", "main", "A" * 40])
def test_a_commit_or_checksum_that_is_a_path_is_refused(sha: str, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ZooError, match="Nothing of it was used"):
        listed(monkeypatch, sha)
    with pytest.raises(ZooError, match="Nothing of it was used"):
        listed(monkeypatch, COMMIT, file("model.safetensors", sha))


@pytest.mark.parametrize("name", ["../b", "a/../b", "a/b/c", "a\\..\\b", "-/x", "a/.."])
def test_hub_ids_that_are_paths_are_no_ids(name: str, zoo_home: Path):
    with pytest.raises(ZooError):
        local_path(name)
    assert not zoo_home.exists()


@pytest.mark.parametrize("part", ["..", "...", "a/b", "a\\b", "/", "%2e%2e", "a\0"])
def test_parts_of_stubs_are_names(part: str):
    with pytest.raises(ZooError):
        parse_stub(f"zoo:nlp/{part}/bert/pytorch/huggingface/mnli/base-none")
    with pytest.raises(ZooError):
        parse_stub(f"zoo:a-b-c@{part}/../x")


@pytest.mark.parametrize(
    "name", ["m\\..\\..\\config.json", "C:\\config.json", "m/../m/config.json", "m//../config.json"]
)
def test_of_an_archive_only_fixed_names_are_taken(name: str, tmp_path: Path):
    wheel, target = tmp_path / "a.whl", tmp_path / "deep" / "target"
    target.mkdir(parents=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(name, b"{}")
    pypi.unpack(wheel, "m", target)
    assert [*tmp_path.rglob("*.json")] == [*target.glob("config.json")] == []


def test_a_link_in_an_archive_becomes_no_link(tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("hidden")
    link = zipfile.ZipInfo("m/config.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr(link, str(secret))
    (tmp_path / "target").mkdir()
    pypi.unpack(tmp_path / "a.whl", "m", tmp_path / "target")
    written = tmp_path / "target" / "config.json"
    assert not written.is_symlink() and written.read_text() == str(secret)
