"""Checkpoints: plain Transformers folders, with the recipe and its modifiers' state in two files more.

    model.safetensors, config.json, tokenizer files     any Transformers loader reads these; zeros are in place
    recipe.yaml                                         the evaluated recipe
    modifiers.safetensors                               masks, ranges and scales, by place in the recipe

A folder is complete when its weights are; a checkpoint of a running training also has `trainer_state.json`,
which is written last.
"""

from __future__ import annotations

import errno
import json
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from resparse.errors import UserError
from resparse.files import WriteError, write_text
from sparseml.recipe import Plan, compose, load_plan
from sparseml.session.session import Session

RECIPE_FILE = "recipe.yaml"
STATE_FILE = "modifiers.safetensors"
TRAINER_STATE_FILE = "trainer_state.json"


class CheckpointError(UserError):
    """A checkpoint that cannot be read: missing, cut short, or not one."""


def save_state(session: Session, base_plan: Plan | None, folder: Path) -> None:
    """Write the recipe and the modifiers' state into a folder that is not yet anybody's."""
    plan = session.plan if base_plan is None else compose(base_plan, session.plan)
    write_text(folder / RECIPE_FILE, plan.to_yaml())
    state = {key: value.contiguous().clone() for key, value in session.state().items()}
    save_file(state, folder / STATE_FILE, metadata={"format": "resparse modifiers"})


def load_state(session: Session, folder: Path) -> None:
    """Give a session the state that `save_state` wrote under the same recipe.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        raise CheckpointError(
            f"{folder} has no {STATE_FILE}: it was not saved by a run with a recipe, so a recipe cannot go on from "
            "it. Start from it with --model_name_or_path and a new --output_dir instead."
        )
    refuse_damaged(folder)
    session.load_state(load_file(path))


def saved_plan(folder: Path) -> Plan | None:
    """The recipe that a folder was made by, or None."""
    path = folder / RECIPE_FILE
    return load_plan(path) if path.is_file() else None


def latest(output_dir: Path) -> Path | None:
    """The newest complete checkpoint below a run's folder, or None."""
    candidates = sorted(output_dir.glob("checkpoint-*"), key=_step_of, reverse=True)
    for candidate in candidates:
        try:
            refuse_damaged(candidate)
        except CheckpointError:
            continue
        return candidate
    return None


def refuse_damaged(folder: Path) -> None:
    """Check that what a folder holds is whole.

    Raises:
        CheckpointError: it is missing, or a file of it is cut short.
    """
    if not folder.is_dir():
        raise CheckpointError(f"There is no checkpoint {folder}.")
    if folder.name.startswith("checkpoint-") and not _is_json(folder / TRAINER_STATE_FILE):
        raise CheckpointError(
            f"{folder} was cut short: its {TRAINER_STATE_FILE}, which is written last, is missing or damaged. "
            "Resume from an earlier checkpoint, or remove it."
        )
    for path in sorted(folder.glob("*.safetensors")):
        problem = damage(path)
        if problem:
            raise CheckpointError(
                f"{path} is damaged ({problem}): it was cut short or overwritten. Use another copy."
            )


def damage(path: Path) -> str | None:
    """What is wrong with a safetensors file, or None; reads its header and its size, not its tensors.

    The format: eight bytes of length, little-endian; a JSON header; the tensors, to the byte.
    """
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
    """Turn the many ways in which libraries report a full disk into one clear error.

    Raises:
        WriteError: with what was being written.
    """
    try:
        yield
    except OSError as error:
        raise WriteError(f"Could not write {folder}: {error.strerror or error}.") from error
    except (SafetensorError, RuntimeError) as error:
        text = str(error)
        if (
            _says_full(text)
            or "PytorchStreamWriter" in text
            or "I/O error" in text
            or "unexpected pos" in text
        ):
            raise WriteError(
                f"Could not write {folder}: {text.splitlines()[0]}. Is the disk full?"
            ) from error
        raise


def _says_full(text: str) -> bool:
    """Whether a message carries the system's words for a full disk or a file that may not be written."""
    return any(os.strerror(code) in text for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES))


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def _step_of(path: Path) -> int:
    suffix = path.name.rpartition("-")[2]
    return int(suffix) if suffix.isdigit() else -1
