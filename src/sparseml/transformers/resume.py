"""Which checkpoint a run goes on from, if any."""

from __future__ import annotations

from pathlib import Path

from resparse.console import say
from resparse.errors import UserError
from sparseml.session import checkpoint
from sparseml.transformers.groups import TrainingArguments


class OutputFolderError(UserError):
    """The output folder holds something that a run would mix with."""


def checkpoint_to_resume(training: TrainingArguments) -> Path | None:
    """The checkpoint that was asked for; else the newest in the output folder, unless it is to be overwritten.

    Raises:
        CheckpointError: the one asked for is missing or damaged.
        OutputFolderError: the folder holds a finished model, and neither resuming nor overwriting was asked for.
    """
    if not training.do_train or training.output_dir is None:
        return None
    folder = Path(training.output_dir)
    asked = training.resume_from_checkpoint
    if isinstance(asked, str):
        checkpoint.refuse_unfinished(Path(asked))
        return Path(asked)
    if training.overwrite_output_dir or asked is False:
        return None
    newest = checkpoint.latest(folder)
    if newest is not None:
        say(f"Going on from {newest}; --overwrite_output_dir begins anew.")
        return newest
    if asked:
        return checkpoint.newest(folder)
    if (folder / "model.safetensors").exists():
        raise OutputFolderError(
            f"{folder} holds a model already. Give another --output_dir, or --overwrite_output_dir to replace it."
        )
    return None
