"""Uploads to the Hugging Face Hub: a repository created, a folder committed, errors in one line."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from resparse.errors import UserError
from sparsezoo.hub import is_offline
from sparsezoo.hub_download import quiet
from sparsezoo.hub_repo import Access, HubRepo, client_errors, explain

# Names that stay here: temporary files, checkpoints, and what names this machine's files or holds a token.
PRIVATE: Final = (
    "_*",
    ".*",
    "checkpoint-*",
    "checkpoint-*/**",
    "earlier-*/**",
    "training_args.bin",
    "run.json",
    "report.html",
)


class PushError(UserError):
    """A model that cannot be pushed to the Hub."""


def create(called: str, token: str | bool | None, private: bool | None) -> HubRepo:
    """Create a model repository, unless it is there; of a name without an owner, among the token's own.

    Raises:
        PushError: no token, one that may not write, or no Hub.
    """
    repo = HubRepo(called, called, access=Access(token))
    if is_offline():
        raise PushError(f"Pushing to {called} needs the Hub, which is switched off (HF_HUB_OFFLINE=1).")
    with clear_errors(repo, None):
        if repo.api().token is None and _stored_token() is None:
            raise PushError(
                f"Pushing to {called} needs an access token that may write: log in with `hf auth login`, or set "
                "HF_TOKEN (a training takes --hub_token, too). https://huggingface.co/settings/tokens makes one."
            )
        made = repo.api().create_repo(called, private=private, exist_ok=True)
    return HubRepo(made.repo_id, made.repo_id, access=Access(token))


def upload(
    repo: HubRepo,
    folder: Path,
    ignored: Sequence[str],
    message: str | None,
    within: str | None = None,
    revision: str | None = None,
) -> Any:
    """Commit a folder's files, all but those that match `ignored`; raises the client's errors (`clear_errors`).

    Args:
        message: of the commit.
        within: the folder of the repository; None is its top.
        revision: the branch.
    """
    with _without_bars():
        return repo.api().upload_folder(
            repo_id=repo.name,
            folder_path=str(folder),
            path_in_repo=within,
            commit_message=message,
            ignore_patterns=list(ignored),
            revision=revision,
        )


def address(repo: HubRepo) -> str:
    """The repository's page."""
    return f"{repo.endpoint or 'https://huggingface.co'}/{repo.name}"


def linked(folder: Path, beside: Path | None = None, ignored: Sequence[str] = ()) -> Path:
    """A temporary folder with a folder's files, by hard links where the file system has them.

    Args:
        beside: the folder that it is made in; None is the system's for temporary files.
        ignored: patterns of names that are left out.
    """
    kept = Path(tempfile.mkdtemp(prefix=".pushing-", dir=beside))
    for path in filter(Path.is_file, folder.iterdir()):
        if any(map(path.match, ignored)):
            continue
        try:
            os.link(path, kept / path.name)
        except OSError:
            shutil.copy(path, kept / path.name)
    return kept


@contextmanager
def clear_errors(repo: HubRepo, folder: Path | None) -> Iterator[None]:
    """Turn the client's errors into one line; `folder` is where the model is all the same, once it is trained."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    kept = "" if folder is None else f" The model is in {folder}: `hf upload {repo.name} {folder}` pushes it."
    try:
        yield
    except UserError:
        raise
    except HFValidationError as error:
        raise PushError(f"The repository {repo.name!r} is not OWNER/NAME: {error}") from error
    except client_errors() as error:
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        if status in (401, 403):
            text = (
                f"The Hub does not let your token write to {repo.name} ({status}): use one with write permission, or "
                "name another repository."
            )
            raise PushError(text + kept) from error
        # The client wraps an upload's error in one that names the file alone.
        cause = error.__cause__ if isinstance(error.__cause__, client_errors()) else error
        raise PushError(f"{explain(cause, repo)}{kept}") from error


@contextmanager
def _without_bars() -> Iterator[None]:
    """Silence the client: its bars would be drawn into ours."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        with quiet():
            yield
    finally:
        if not before:
            enable_progress_bars()


def _stored_token() -> str | None:
    from huggingface_hub import get_token

    return get_token()
