"""Output folders that are not empty: resume from a checkpoint, rename the folder, or refuse."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from resparse.console import say, warn
from resparse.errors import UserError
from resparse.files import WriteError
from sparseml.options.groups import TrainingArguments
from sparseml.session import checkpoint
from sparseml.training.arguments import Arguments


class OutputFolderError(UserError):
    """The output folder holds files that would be mixed with this run's."""


def finished_by_another(arguments: Arguments) -> Path | None:
    """The output folder, if it holds the finished training of another command, to be renamed before this one writes.

    None where the folder is to be overwritten or resumed, or where this run reads from it.
    """
    training = arguments.training
    if not training.do_train or training.overwrite_output_dir or training.resume_from_checkpoint:
        return None
    folder = Path(str(training.output_dir))
    try:
        command = json.loads((folder / "report.json").read_text(encoding="utf-8"))["command"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if command == arguments.command or not (folder / "model.safetensors").exists():
        return None
    return None if any(_is_inside(path, folder) for path in _read_by(arguments)) else folder


def set_aside(folder: Path) -> Path:
    """Rename a folder to the first free name of NAME-1, NAME-2, ..., and tell the user; returns the new path.

    Raises:
        WriteError: its parent cannot be written.
    """
    folder = folder.resolve()
    names = (folder.with_name(f"{folder.name}-{number}") for number in itertools.count(1))
    free = next(path for path in names if not path.exists())
    try:
        folder.rename(free)
    except OSError as error:
        raise WriteError(f"Could not move {folder} to {free.name}: {error.strerror or error}.") from error
    warn(f"{folder} held the finished model of another command: it is {free.name} now.")
    return free


def _read_by(arguments: Arguments) -> list[str]:
    """Arguments that may be paths which the run reads."""
    model, data, training = arguments.model, arguments.data, arguments.training
    named = (
        *(model.model_name_or_path, model.config_name, model.tokenizer_name),
        *(data.dataset_name, data.train_file, data.validation_file, data.test_file),
        *(training.recipe, training.distill_teacher),
    )
    return [path for text in named if text and "\n" not in text for path in text.split(",")]


def _is_inside(path: str, folder: Path) -> bool:
    return Path(path.strip()).expanduser().resolve().is_relative_to(folder.resolve())


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
