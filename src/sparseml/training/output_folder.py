"""Output folders that are not empty: go on with the same run, set another one's files aside, or refuse."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from resparse.console import say, warn
from resparse.errors import UserError
from resparse.files import WriteError, refuse_unwritable
from sparseml.fingerprint import MARK, MODEL_FILES, Fingerprint, Mark, read_mark
from sparseml.model_card import CARD, is_ours
from sparseml.session import checkpoint
from sparseml.training.arguments import Arguments

_WEIGHTS: Final = "model.safetensors"
_REPORT: Final = "report.json"
_ELSEWHERE: Final = "Give another --output_dir, or --overwrite_output_dir to replace it."
_CHECKPOINT: Final = re.compile(r"checkpoint-\d+")
# What a run writes into its folder beside a model's files, export and report included.
_RESULTS: Final = (
    *(MARK, _REPORT, "summary.txt", "server.yaml", "report.html", "*_results.json", "predict_results*"),
    *("trainer_state.json", "training_args.bin", "sample-inputs", "sample-outputs", "deployment", "runs"),
    *("eval_*predictions.json", "predict_*predictions.json", "*_null_odds.json"),
    *(".checkpoint-*.older", ".saving-*"),
)


class OutputFolderError(UserError):
    """The output folder holds files that would be mixed with this run's, or lost by it."""


@dataclass(frozen=True)
class OutputFolder:
    """What is to be done with the output folder of a run that changes the model.

    Attributes:
        path: the folder.
        made_of: what the run is made of.
        resume: the checkpoint to go on from.
        other: why what an earlier run wrote there is to be moved out of the way; "" where it is not.
        overwrites: whether it is to be replaced instead.
    """

    path: Path
    made_of: Fingerprint
    resume: Path | None = None
    other: str = ""
    overwrites: bool = False

    def begin(self) -> None:
        """Make room, and write what the run is made of; to be called once all is ready to train.

        Raises:
            WriteError: the folder cannot be written.
        """
        if self.other:
            set_aside(self.path, self.other)
        for path in self.path.glob(checkpoint.REPLACED):  # of a run that was killed meanwhile
            shutil.rmtree(path, ignore_errors=True)
        mark = read_mark(self.path)
        if mark is not None and not mark.made_of.differences(self.made_of):
            return
        if self.overwrites:
            for path in _checkpoints(self.path):
                shutil.rmtree(path, ignore_errors=True)  # else this run, once stopped, would go on from them
        own = self.overwrites or (
            self.resume is not None and self.resume.resolve().parent == self.path.resolve()
        )
        before = mark.kept if mark is not None else [] if own else sorted(_named_alike(self.path))
        Mark(self.made_of, before).write(self.path)


def look_into(arguments: Arguments, made_of: Fingerprint) -> OutputFolder | None:
    """What is to be done with the output folder; None for a run that does not change the model.

    Nothing is changed yet, and a line says where the run goes on.

    Raises:
        CheckpointError: the checkpoint that was asked for is missing or damaged.
        WriteError: nothing can be written there.
        OutputFolderError: the folder holds a finished model of the same run, something that this run reads or that
            it would replace, or checkpoints of nobody knows what.
    """
    training = arguments.training
    if not arguments.learns or training.output_dir is None:
        return None
    folder = Path(training.output_dir)
    refuse_unwritable(folder)
    asked = training.resume_from_checkpoint if training.do_train else None
    if isinstance(asked, str):
        return _as_asked(arguments, folder, made_of, Path(asked))
    if training.overwrite_output_dir:
        return OutputFolder(folder, made_of, overwrites=True)
    if asked:
        return _as_asked(arguments, folder, made_of, checkpoint.newest(folder))
    return _as_found(arguments, folder, made_of)


def _as_found(arguments: Arguments, folder: Path, made_of: Fingerprint) -> OutputFolder:
    """Go on from the newest checkpoint of the same run."""
    training = arguments.training
    other, newest = _other_run(arguments, folder, made_of), checkpoint.latest(folder)
    if other or not training.do_train:
        return OutputFolder(folder, made_of, other=other)
    if newest is not None and training.resume_from_checkpoint is None:
        say(f"Going on from {newest}; --overwrite_output_dir begins anew.")
        return OutputFolder(folder, made_of, resume=newest)
    if (folder / _WEIGHTS).exists():
        raise OutputFolderError(f"{folder} holds a model already, of this very run. {_ELSEWHERE}")
    return OutputFolder(folder, made_of)


def _as_asked(arguments: Arguments, folder: Path, made_of: Fingerprint, chosen: Path) -> OutputFolder:
    """Go on from the checkpoint that the user asked for; a warning says where it is of something else."""
    checkpoint.refuse_unfinished(chosen)
    mark = read_mark(chosen.resolve().parent)
    if mark is not None and (different := mark.made_of.differences(made_of)):
        warn(
            f"{chosen} is of a run that was made of something else ({', '.join(different)}); gone on with, as asked."
        )
    if chosen.resolve().parent == folder.resolve():
        return OutputFolder(folder, made_of, resume=chosen)
    if arguments.training.overwrite_output_dir:
        return OutputFolder(folder, made_of, resume=chosen, overwrites=True)
    return OutputFolder(folder, made_of, resume=chosen, other=_other_run(arguments, folder, made_of))


def _other_run(arguments: Arguments, folder: Path, made_of: Fingerprint) -> str:
    """Why what the folder holds is another run's, for a message; "" where it is the same run's, or nothing.

    Raises:
        OutputFolderError: it is not ours to move, or this run reads it.
    """
    mark = read_mark(folder)
    if mark is None and not _has_report(folder):
        _refuse_what_is_not_ours(folder)
        return ""
    different = mark.made_of.differences(made_of) if mark is not None else []
    if mark is not None and not different:
        return ""
    _refuse_to_move_inputs(arguments, folder)
    if mark is None:
        return "which does not say what it is made of"
    return f"made of something else ({', '.join(different)})"


def _has_report(folder: Path) -> bool:
    """Whether the folder holds a finished run of ours; those of older versions have no mark."""
    try:
        report = json.loads((folder / _REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(report, dict) and "command" in report


def _refuse_what_is_not_ours(folder: Path) -> None:
    """Refuse a folder without a mark where the run would go on from, or replace, what nobody knows of."""
    newest = checkpoint.latest(folder)
    if (folder / _WEIGHTS).exists():
        raise OutputFolderError(f"{folder} holds a model already. {_ELSEWHERE}")
    if newest is not None:
        raise OutputFolderError(
            f"{newest} does not say what it is made of (there is no {MARK} beside it): whether this run may go on from "
            f"it cannot be known. --resume_from_checkpoint goes on all the same. {_ELSEWHERE}"
        )
    patterns = (*MODEL_FILES, _REPORT)
    at_stake = sorted({path.name for pattern in patterns for path in folder.glob(pattern)})
    if at_stake:
        raise OutputFolderError(
            f"{folder} holds {', '.join(at_stake)}, which no run of ours wrote, and the trained model's would replace. "
            f"{_ELSEWHERE}"
        )


def _refuse_to_move_inputs(arguments: Arguments, folder: Path) -> None:
    """Refuse where this run reads what is to be moved."""
    moved = written_by_a_run(folder)
    for text in _read_by(arguments):
        path = Path(text.strip()).expanduser().resolve()
        if path == folder.resolve() or any(path.is_relative_to(other.resolve()) for other in moved):
            raise OutputFolderError(
                f"{folder} holds a model already, and this run reads {text}. {_ELSEWHERE}"
            )


def _read_by(arguments: Arguments) -> list[str]:
    """Arguments that may be paths which the run reads."""
    model, data, training = arguments.model, arguments.data, arguments.training
    named = (
        *(model.model_name_or_path, model.config_name, model.tokenizer_name),
        *(data.dataset_name, data.train_file, data.validation_file, data.test_file),
        *(training.recipe, training.distill_teacher),
    )
    return [path for text in named if text and "\n" not in text for path in text.split(",")]


def written_by_a_run(folder: Path) -> list[Path]:
    """What runs have written into a folder: by their names, but for those that the mark says were there before."""
    mark = read_mark(folder)
    kept = mark.kept if mark is not None else []
    return sorted(folder / name for name in _named_alike(folder) if name not in kept)


def _named_alike(folder: Path) -> set[str]:
    """Names of what is called like the files of a run, a card of the user's own left out."""
    found = {path.name for pattern in (*MODEL_FILES, *_RESULTS) for path in folder.glob(pattern)}
    found |= {path.name for path in _checkpoints(folder)}
    card = folder / CARD
    if card.is_file() and is_ours(card.read_text(encoding="utf-8", errors="replace")):
        found.add(CARD)
    return found


def _checkpoints(folder: Path) -> list[Path]:
    return [
        path for path in folder.glob("checkpoint-*") if _CHECKPOINT.fullmatch(path.name) and path.is_dir()
    ]


def warn_of_older_deployment(folder: Path) -> None:
    """After a training: what was exported from the model before it would be taken for this one's."""
    deployed, weights = folder / "deployment" / "model.onnx", folder / _WEIGHTS
    if deployed.is_file() and weights.is_file() and deployed.stat().st_mtime_ns < weights.stat().st_mtime_ns:
        warn(f"{deployed.parent} was exported before this training: sparseml export --model_path {folder}")


def set_aside(folder: Path, why: str) -> None:
    """Move what a run wrote out of the way, and tell the user.

    A folder that holds nothing else is renamed, to the first free name of NAME-1, NAME-2, ...; else only what the
    run wrote is moved, into a new folder inside.

    Raises:
        WriteError: the folder cannot be written.
    """
    is_link = folder.is_symlink()  # renamed, its target would be gone
    folder = folder.resolve()
    moved = (None if is_link else _renamed(folder)) or _moved_inside(folder)
    warn(f"{folder} held an earlier run, {why}: {moved}.")


def _renamed(folder: Path) -> str | None:
    """Rename a folder that holds nothing but a run; None where that cannot be.

    That is so where others' files are there, where commands run in it, or where it is a mounted one.
    """
    mixed = len(written_by_a_run(folder)) < len(list(folder.iterdir()))
    if mixed or Path.cwd().is_relative_to(folder):
        return None
    free = _free(folder)
    try:
        folder.rename(free)
    except OSError:
        return None
    return f"it is {free.name} now"


def _moved_inside(folder: Path) -> str:
    free = _free(folder / "earlier")
    # The mark last: a move that is cut short is taken up by the next run.
    ours = sorted(written_by_a_run(folder), key=lambda path: path.name == MARK)
    try:
        free.mkdir()
        for path in ours:
            path.rename(free / path.name)
    except OSError as error:
        raise WriteError(f"Could not move {folder} to {free}: {error.strerror or error}.") from error
    return f"its files are in {free} now, and all others stay"


def _free(path: Path) -> Path:
    """The first of PATH-1, PATH-2, ... that does not exist."""
    numbered = (path.with_name(f"{path.name}-{number}") for number in itertools.count(1))
    return next(candidate for candidate in numbered if not candidate.exists())
