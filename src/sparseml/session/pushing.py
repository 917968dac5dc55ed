"""Transformers' Trainer, pushing to the Hub what a folder of ours holds: recipe, modifiers' state, card, export.

The Trainer's own uploads know neither file, and would publish `training_args.bin`, a pickle that holds `--hub_token`.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

from transformers import Trainer
from transformers.trainer_utils import HubStrategy

from resparse.progress import waiting
from sparsezoo.hub_repo import HubRepo
from sparsezoo.hub_upload import PRIVATE, clear_errors, create, linked, upload

# Of a checkpoint, what only its own training needs.
_TRAINING_STATE: Final = ("optimizer.*", "scheduler.pt", "rng_state*.pth", "scaler.pt", "trainer_state.json")


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
        return upload(self.hub_repo, folder, ignored, message, within, revision or self.args.hub_revision)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Upload a checkpoint in the background, as `hub_strategy` says."""
        args, strategy = self.args, self.args.hub_strategy
        if not self.is_world_process_zero() or strategy == HubStrategy.END:
            return
        if not args.hub_always_push and not all(upload.done() for upload in self._uploads):
            return
        self.callback_handler.on_push_begin(args, self.state, self.control)
        # A copy, since the checkpoint may be removed (--save_total_limit) before it is uploaded.
        kept = linked(Path(checkpoint_folder), Path(str(args.output_dir)))
        message = f"Training in progress, step {self.state.global_step}"
        commits: list[tuple[Sequence[str], str, str | None]] = [((*PRIVATE, *_TRAINING_STATE), message, None)]
        if strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            within = "last-checkpoint" if strategy == HubStrategy.CHECKPOINT else Path(checkpoint_folder).name
            commits.append((PRIVATE, f"{message}, checkpoint", within))

        def commit_all() -> None:
            # One after the other, and only then the copy goes: separate futures may run at once.
            try:
                for ignored, text, place in commits:
                    self._commit(kept, ignored, text, place)
            finally:
                shutil.rmtree(kept, ignore_errors=True)

        self._uploads = [self.hub_repo.api().run_as_future(commit_all)]

    def _finish_current_push(self) -> None:
        """Wait for the uploads of checkpoints."""
        uploads, self._uploads = self._uploads, ()
        for commit in uploads:
            with clear_errors(self.hub_repo, Path(str(self.args.output_dir))):
                commit.result()
