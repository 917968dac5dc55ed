"""Transformers' Trainer, pushing to the Hub what a folder of ours holds: recipe, modifiers' state, card, export.

The Trainer's own uploads know neither file, and would publish `training_args.bin`, a pickle that holds `--hub_token`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from transformers import Trainer
from transformers.trainer_utils import HubStrategy

from resparse.errors import UserError
from resparse.progress import waiting
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
# Of a checkpoint, what only its own training needs.
_TRAINING_STATE: Final = ("optimizer.*", "scheduler.pt", "rng_state*.pth", "scaler.pt", "trainer_state.json")


class PushError(UserError):
    """A model that cannot be pushed to the Hub."""


class PushingTrainer(Trainer):
    """As the Trainer; `push_to_hub` and the checkpoints of `hub_strategy` are whole, and errors are clear."""

    control: Any  # set by the Trainer
    hub_repo: HubRepo
    _uploads: Sequence[Future[Any]] = ()

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Create the repository, where there is none, before anything is trained.

        Raises:
            PushError: no token, one that may not write, or no Hub.
        """
        if not self.is_world_process_zero():
            return
        args = self.args
        called = args.hub_model_id or Path(str(args.output_dir)).absolute().name
        token = token if token is not None else args.hub_token
        private = private if private is not None else args.hub_private_repo
        self.hub_repo = create(called, token, private)
        self.hub_model_id = args.hub_model_id = self.hub_repo.name
        self.push_in_progress = None

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """As the Trainer's: save the model, and upload the output folder.

        Returns:
            The commit; a future of it where not `blocking`; None but on the first process.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.hub_model_id is None:
            self.init_hf_repo(token, private)
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        self.create_model_card(**kwargs)
        self._finish_current_push()
        folder = Path(str(self.args.output_dir))
        return self._upload(folder, PRIVATE, commit_message, blocking, revision=revision)

    def _upload(
        self,
        folder: Path,
        ignored: Sequence[str],
        message: str | None,
        blocking: bool,
        revision: str | None = None,
    ) -> Any:
        if not blocking:
            return self.hub_repo.api().run_as_future(self._commit, folder, ignored, message, None, revision)
        with clear_errors(self.hub_repo, folder), waiting(f"uploading to {self.hub_repo.name}"):
            return self._commit(folder, ignored, message, None, revision)

    def _commit(
        self,
        folder: Path,
        ignored: Sequence[str],
        message: str | None,
        within: str | None = None,
        revision: str | None = None,
    ) -> Any:
        with _without_bars():
            return self.hub_repo.api().upload_folder(
                repo_id=self.hub_repo.name,
                folder_path=str(folder),
                path_in_repo=within,
                commit_message=message,
                ignore_patterns=list(ignored),
                revision=revision or self.args.hub_revision,
            )

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Upload a checkpoint in the background, as `hub_strategy` says."""
        args, strategy = self.args, self.args.hub_strategy
        if not self.is_world_process_zero() or strategy == HubStrategy.END:
            return
        if not args.hub_always_push and not all(upload.done() for upload in self._uploads):
            return
        self.callback_handler.on_push_begin(args, self.state, self.control)
        # A copy, since the checkpoint may be removed (--save_total_limit) before it is uploaded.
        kept = _linked(Path(checkpoint_folder), Path(str(args.output_dir)))
        message = f"Training in progress, step {self.state.global_step}"
        commits: list[tuple[Sequence[str], str, str | None]] = [((*PRIVATE, *_TRAINING_STATE), message, None)]
        if strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            within = "last-checkpoint" if strategy == HubStrategy.CHECKPOINT else Path(checkpoint_folder).name
            commits.append((PRIVATE, f"{message}, checkpoint", within))

        def upload() -> None:
            # One after the other, and only then the copy goes: separate futures may run at once.
            try:
                for ignored, text, place in commits:
                    self._commit(kept, ignored, text, place)
            finally:
                shutil.rmtree(kept, ignore_errors=True)

        self._uploads = [self.hub_repo.api().run_as_future(upload)]

    def _finish_current_push(self) -> None:
        """Wait for the uploads of checkpoints."""
        uploads, self._uploads = self._uploads, ()
        for upload in uploads:
            with clear_errors(self.hub_repo, Path(str(self.args.output_dir))):
                upload.result()


def create(called: str, token: str | bool | None, private: bool | None) -> HubRepo:
    """Create a model repository, unless it is there; of a name without an owner, among the token's own.

    Raises:
        PushError: no token, one that may not write, or no Hub.
    """
    repo = HubRepo(called, called, access=Access(token))
    if is_offline():
        raise PushError("--push_to_hub needs the Hub, which is switched off (HF_HUB_OFFLINE=1).")
    with clear_errors(repo, None):
        if repo.api().token is None and _stored_token() is None:
            raise PushError(
                "--push_to_hub needs an access token that may write: log in with `hf auth login`, set HF_TOKEN, or "
                "give --hub_token. https://huggingface.co/settings/tokens makes one."
            )
        made = repo.api().create_repo(called, private=private, exist_ok=True)
    return HubRepo(made.repo_id, made.repo_id, access=Access(token))


def address(repo: HubRepo) -> str:
    """The repository's page."""
    return f"{repo.endpoint or 'https://huggingface.co'}/{repo.name}"


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
        raise PushError(f"--hub_model_id {repo.name!r} is not OWNER/NAME: {error}") from error
    except client_errors() as error:
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        if status in (401, 403):
            text = (
                f"The Hub does not let your token write to {repo.name} ({status}): give one with write permission "
                "(--hub_token), or another --hub_model_id."
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


def _linked(checkpoint: Path, beside: Path) -> Path:
    """A folder with the checkpoint's files, by hard links where the file system has them."""
    kept = Path(tempfile.mkdtemp(prefix=".pushing-", dir=beside))
    for path in checkpoint.iterdir():
        try:
            os.link(path, kept / path.name)
        except OSError:
            shutil.copy(path, kept / path.name)
    return kept
