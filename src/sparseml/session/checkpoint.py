"""Checkpoints: plain Transformers folders, with two additional files for the recipe and its modifiers' state.

    model.safetensors, config.json, tokenizer files     any Transformers loader reads these; zeros are in place
    recipe.yaml                                         the evaluated recipe
    modifiers.safetensors                               masks, ranges and scales, by index in the recipe

A folder is complete when its weights are; a checkpoint of a running training also has `trainer_state.json`,
which is written last.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from resparse.errors import UserError
from resparse.files import WriteError, write_text
from sparseml.processes import wait_for_all
from sparseml.recipe import Plan, compose, load_plan
from sparseml.session.session import Session

RECIPE_FILE = "recipe.yaml"
STATE_FILE = "modifiers.safetensors"
OWN_FILES = (RECIPE_FILE, STATE_FILE)
TRAINER_STATE_FILE = "trainer_state.json"
_OLDER = ".older"
REPLACED = f".checkpoint-*{_OLDER}"
"""Pattern of checkpoints that are being replaced by others of the same step."""
# The random state is a file for each process, where there are several: rng_state_0.pth and so on.
_TRAINING_FILES = ("optimizer.pt", "scheduler.pt", "rng_state*.pth")


class CheckpointError(UserError):
    """A checkpoint that cannot be read: missing, cut short, or not one."""


@dataclass(frozen=True)
class Saved:
    """The recipe of a checkpoint and its modifiers' tensors, as in `Session.state`; {} where there is no such file."""

    plan: Plan
    state: dict[str, Tensor]


def saved(folder: Path) -> Saved | None:
    """The recipe and state in a folder, or None for a model that was trained without a recipe.

    Raises:
        RecipeError, CheckpointError: it cannot be read.
    """
    path = folder / STATE_FILE
    if not (folder / RECIPE_FILE).is_file():
        if path.is_file():
            raise CheckpointError(
                f"{folder} has no {RECIPE_FILE}, which says what its {STATE_FILE} is for, such as quantization: a file "
                "is missing. Use another copy."
            )
        return None
    if problem := damage(path) if path.is_file() else None:
        raise CheckpointError(
            f"{path} is damaged ({problem}): it was cut short or overwritten. Use another copy."
        )
    return Saved(load_plan(folder / RECIPE_FILE), load_file(path) if path.is_file() else {})


def save_state(session: Session | None, base: Saved | None, folder: Path) -> None:
    """Write recipe and modifiers' state into a new folder; `session` is None for a run without a recipe.

    `base` is of the checkpoint that the run started from: its recipe comes first, its state is kept.
    """
    plan = _whole_plan(session, base)
    if plan is None:
        return
    state = dict(base.state) if base is not None else {}
    if session is not None:
        state |= session.state(_place(base))
    write_text(folder / RECIPE_FILE, plan.to_yaml())
    tensors = {key: value.contiguous().clone() for key, value in state.items()}
    save_file(tensors, folder / STATE_FILE, metadata={"format": "resparse modifiers"})


def load_state(session: Session | None, base: Saved | None, folder: Path) -> None:
    """Load into a session the state that `save_state` wrote under the same recipes.

    Raises:
        CheckpointError: there is none, it is damaged, or it was written under another recipe.
    """
    found, expected = saved(folder), _whole_plan(session, base)
    if found is None and expected is not None:
        raise CheckpointError(
            f"{folder} was not saved by a run with a recipe, so a recipe cannot go on from it. Start from it with "
            "--model_name_or_path and a new --output_dir instead."
        )
    if found is not None and (expected is None or _steps(found.plan) != _steps(expected)):
        raise CheckpointError(
            f"{folder} was saved under another recipe than this run's: it cannot go on where that one was. Resume "
            f"with the recipe that made it (see {folder / RECIPE_FILE}), or begin anew with --overwrite_output_dir."
        )
    if found is not None and not (folder / STATE_FILE).is_file():
        raise CheckpointError(
            f"{folder} has no {STATE_FILE}, where its recipe's masks and ranges are: it was cut short. Use another."
        )
    if found is not None and session is not None:
        session.load_state(found.state, _place(base))


def _whole_plan(session: Session | None, base: Saved | None) -> Plan | None:
    """The recipes of all trainings of the model, one after the other."""
    if base is None or session is None:
        return session.plan if session is not None else base.plan if base is not None else None
    return compose(base.plan, session.plan)


def _place(base: Saved | None) -> int:
    """The index of a session's first modifier in the whole recipe: after the base's."""
    return len(base.plan.modifiers) if base is not None else 0


def _steps(plan: Plan) -> list[tuple[str, dict[str, Any]]]:
    """A recipe's modifiers and fields, without lines and comments."""
    return [(spec.tag, spec.fields) for spec in plan.modifiers]


def latest(output_dir: Path) -> Path | None:
    """The newest complete checkpoint below a run's folder, or None."""
    candidates = sorted(output_dir.glob("checkpoint-*"), key=_step_of, reverse=True)
    return next(filter(_is_finished, candidates), None)


def newest(output_dir: Path) -> Path:
    """As `latest`; a CheckpointError where there is none."""
    if (found := latest(output_dir)) is None:
        raise CheckpointError(f"{output_dir} holds no complete checkpoint to resume from.")
    return found


def refuse_unfinished(folder: Path) -> None:
    """Check that a training can go on from a folder; a CheckpointError says what is missing or cut short."""
    if not folder.is_dir():
        raise CheckpointError(f"There is no checkpoint {folder}.")
    instead = "Resume from an earlier checkpoint, or start from its weights with --model_name_or_path."
    if not _is_json(folder / TRAINER_STATE_FILE):
        raise CheckpointError(
            f"{folder} was cut short, or is no checkpoint of a training: its {TRAINER_STATE_FILE}, which is written "
            f"last, is missing or damaged. {instead}"
        )
    weights = sorted(folder.glob("*.safetensors"))
    for name in ("model*.safetensors", *_TRAINING_FILES):
        if not any(folder.glob(name)):
            raise CheckpointError(f"{folder} has no {name}, which a training needs to go on. {instead}")
    for path in (*weights, *(path for name in _TRAINING_FILES for path in sorted(folder.glob(name)))):
        if problem := damage(path):
            raise CheckpointError(
                f"{path} is damaged ({problem}): it was cut short or overwritten. {instead}"
            )


@contextmanager
def replacing(folder: Path, leads: bool = True) -> Iterator[None]:
    """Move an existing checkpoint aside while a new one is written; restore it when the writing fails.

    Of several processes that write into it, the one that `leads` does so, while the others wait.
    """
    older = folder.with_name(f".{folder.name}{_OLDER}")
    if leads:
        shutil.rmtree(older, ignore_errors=True)
        if _is_finished(folder):
            folder.rename(older)
        else:  # what a killed run left
            shutil.rmtree(folder, ignore_errors=True)
    wait_for_all()
    try:
        yield
    except BaseException:
        if leads:
            shutil.rmtree(folder, ignore_errors=True)
            if older.exists():
                older.rename(folder)
        raise
    wait_for_all()
    if leads:
        shutil.rmtree(older, ignore_errors=True)


def damage(path: Path) -> str | None:
    """What is wrong with a file of tensors, or None; reads its header and size, not its tensors.

    `.safetensors` is a little-endian 8-byte header length, a JSON header, and the tensors; the header gives the
    exact size. Anything else is PyTorch's: a zip archive, whose directory is at the end.
    """
    if path.suffix != ".safetensors":
        return None if zipfile.is_zipfile(path) else "its end is missing"
    try:
        with path.open("rb") as file:
            length = struct.unpack("<Q", file.read(8))[0]
        with safe_open(path, framework="np") as tensors:
            tensors.keys()
        return None if length < path.stat().st_size else "shorter than its header"
    except (struct.error, SafetensorError, OSError, ValueError) as error:
        return str(error) or type(error).__name__


@contextmanager
def clear_write_errors(folder: Path) -> Iterator[None]:
    """Turn the many ways in which libraries report a full disk into one clear WriteError."""
    try:
        yield
    except OSError as error:
        raise WriteError(f"Could not write {folder}: {error.strerror or error}.") from error
    except UserError:
        raise
    except Exception as error:  # tokenizers raises nothing more special
        text = str(error)
        if (reason := next((sign for sign in _REASONS if sign in text), None)) is not None:
            raise WriteError(f"Could not write {folder}: {reason}.") from error
        if any(sign in text for sign in _CUT_SHORT):
            raise WriteError(
                f"Could not write {folder}: it was cut short, as it is where the disk is full ({text.splitlines()[0]})."
            ) from error
        raise


# Texts of the operating system, as safetensors and tokenizers report them, and those of libraries for a short write.
_REASONS = tuple(
    os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)
)
_CUT_SHORT = ("PytorchStreamWriter", "unexpected pos", "iostream error", "I/O error")


def remove_later(folder: Path) -> None:
    """Remove the checkpoints of later steps beside a checkpoint: they are an earlier run's, which this one replaces."""
    for other in folder.parent.glob("checkpoint-*"):
        if _step_of(other) > _step_of(folder):
            shutil.rmtree(other, ignore_errors=True)


def _is_finished(folder: Path) -> bool:
    try:
        refuse_unfinished(folder)
    except CheckpointError:
        return False
    return True


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def _step_of(path: Path) -> int:
    suffix = path.name.rpartition("-")[2]
    return int(suffix) if suffix.isdigit() else -1
