"""Downloads of single files from the Hugging Face Hub into its client's cache: resumed, checked, under a lock.

`huggingface_hub` does not resume a download in the next run, and compares sizes rather than checksums. So large files,
those in Git LFS, are downloaded here: into a temporary file in the client's cache, under the client's own lock, and
renamed to their final name once their sha256 is verified.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from resparse.files import unfinished_file
from sparsezoo.common import ZooError, git_blob_of, sha256_of
from sparsezoo.hub_repo import HubRepo, client_errors, explain, pause_before_retry

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

Result = TypeVar("Result")

_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_BAR_FROM_BYTES = 5_000_000
_TIMEOUT_S = 15.0
_ATTEMPTS = 3
_ONLY_ERRORS = 40


def list_files(repo: HubRepo, revision: str | None) -> tuple[str, dict[str, RepoSibling]]:
    """The commit of a revision, and its files by name, with size and checksum; for errors see `explain`.

    What the Hub states becomes paths in the cache, so it is checked: a ZooError where a name would leave its folder.
    """
    info: Any = _with_retries(
        lambda: repo.api().repo_info(
            repo.name, repo_type=repo.kind, revision=revision, files_metadata=True, timeout=_TIMEOUT_S
        ),
        lambda error: explain(error, repo, revision),
    )
    files = {sibling.rfilename: sibling for sibling in info.siblings or []}
    wrong = [name for name in files if not _stays_inside(name)]
    wrong += [
        file.lfs.sha256 for file in files.values() if file.lfs and not _SHA256.fullmatch(file.lfs.sha256)
    ]
    if not _COMMIT.fullmatch(str(info.sha)):
        wrong.append(str(info.sha))
    if wrong:
        raise ZooError(
            f"{repo.subject} states {wrong[0]!r:.80}, which is no name of a file in it, no commit and no checksum. "
            "Nothing of it was used."
        )
    return str(info.sha), files


def _stays_inside(name: str) -> bool:
    """Whether a file of this name lies in the folder that it is put into, on every system."""
    parts = re.split(r"[/\\]", name)
    return "\0" not in name and not any(part in ("", "..") or ":" in part for part in parts)


def fetch_file(repo: HubRepo, commit: str, file: RepoSibling, checked_size: int | None = None) -> Path:
    """The path in the cache of one file of `list_files`, downloaded when it is not there yet; for errors see `explain`.

    A copy that was checked before, and still has `checked_size`, is not read again.
    """
    fresh = False

    def request() -> Path:
        nonlocal fresh
        fresh = _fetch_large(repo, commit, file) or fresh
        return Path(
            repo.api().hf_hub_download(
                repo.name, file.rfilename, repo_type=repo.kind, revision=commit, cache_dir=repo.cache
            )
        )

    with _progress_bar(file.size is None or file.size >= _BAR_FROM_BYTES):
        path = _with_retries(request, lambda error: explain(error, repo, commit, file.rfilename))
    if not fresh and path.stat().st_size != checked_size:
        _check(path, repo, file)
    return path


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the client's log, unless the user has set its verbosity."""
    from huggingface_hub import logging

    before = logging.get_verbosity()
    if "HF_HUB_VERBOSITY" not in os.environ:
        logging.set_verbosity(_ONLY_ERRORS)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _with_retries(request: Callable[[], Result], explained: Callable[[Exception], ZooError]) -> Result:
    """Call `request`, again while the Hub is busy."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return request()
        except client_errors() as error:
            if attempt == _ATTEMPTS or not pause_before_retry(error, attempt):
                raise explained(error) from error
    raise AssertionError("unreachable")


def _fetch_large(repo: HubRepo, commit: str, file: RepoSibling) -> bool:
    """Download a file of Git LFS into the cache; return whether it was missing there.

    An interrupted download is resumed, by its own process or, where that has ended, by another one. Each writes a file
    of its own: where the file system ignores locks, two may download at once.
    """
    # Public there, though its types do not say so.
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    if file.lfs is None:
        return False
    blob = repo.folder / "blobs" / file.lfs.sha256
    if blob.exists():
        return False
    lock = repo.cache / ".locks" / repo.folder.name / f"{blob.name}.lock"
    for folder in (blob.parent, lock.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if blob.exists():
            return True
        part = unfinished_file(blob)
        resumed = part.exists()
        _resume(repo, commit, file, part)
        if resumed and sha256_of(part) != file.lfs.sha256:
            part.unlink()
            _resume(repo, commit, file, part)
        _check(part, repo, file)
        part.replace(blob)
    return True


def _resume(repo: HubRepo, commit: str, file: RepoSibling, part: Path) -> None:
    """Download the rest of an incomplete file."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get

    # Public there, though its types do not say so.
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    url = hf_hub_url(repo.name, file.rfilename, repo_type=repo.kind, revision=commit, endpoint=repo.endpoint)
    headers = build_hf_headers(token=repo.access.token, library_name="resparse")
    if file.size is not None and part.exists() and part.stat().st_size > file.size:
        part.unlink()
    try:
        with part.open("ab") as stream:
            http_get(
                url,
                stream,
                resume_size=stream.tell(),
                headers=headers,
                expected_size=file.size,
                displayed_filename=file.rfilename,
            )
    except OSError as error:
        if error.errno == errno.ENOSPC:
            part.unlink(missing_ok=True)
        raise


def _check(path: Path, repo: HubRepo, file: RepoSibling) -> None:
    """Compare a file with the Hub's checksum; remove it when they differ."""
    kind, expected = ("sha256", file.lfs.sha256) if file.lfs else ("git blob id", file.blob_id)
    actual = sha256_of(path) if file.lfs else git_blob_of(path)
    if expected in (None, actual):
        return
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    raise ZooError(
        f"{file.rfilename} from the Hugging Face Hub {repo.described} arrived damaged: its {kind} is {actual}, "
        f"and the Hub states {expected}. The file was removed; run the command again to fetch it anew."
    )


@contextmanager
def _progress_bar(shown: bool) -> Iterator[None]:
    """Let the client show its progress bar for large files only, unless the user has configured it."""
    from huggingface_hub import constants
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if shown or are_progress_bars_disabled() or constants.HF_HUB_DISABLE_PROGRESS_BARS is not None:
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
