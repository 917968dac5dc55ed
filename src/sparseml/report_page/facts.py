"""What a trained folder tells about itself, read from its files; what is missing is named."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resparse.errors import UserError
from resparse.json_text import parse_json
from sparseml.session import checkpoint
from sparseml.session.callback import SPARSITY

DEPLOYMENT = "deployment"
_REPORT = "report.json"
_MODEL = "model.onnx"
# Keys of evaluations that are not scores: how long they took, and where they were.
_NOT_SCORES = ("loss", "runtime", "per_second", "epoch", "compilation", "combined_score")


class ReportError(UserError):
    """A folder that holds nothing to report on."""


@contextmanager
def well_formed(folder: Path) -> Iterator[None]:
    """Turn what reading a damaged report raises into a ReportError."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ReportError(
            f"{folder / _REPORT} is damaged, or was written by another program ({type(error).__name__}: "
            f"{str(error)[:80]}). Train again, or remove it: then the model itself is counted."
        ) from error


@dataclass(frozen=True)
class Series:
    """A value over the training: (epoch, value), in the order of time."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Evaluation:
    """What evaluated rows say; see `sparseml.evaluation`.

    Attributes:
        rows_called: which rows.
        confusion: {true: {predicted: rows}}, zeros left out; for one label a row.
        labels: {name: {right, missed, wrong}}, for several.
        answers: {what became of a question: questions}, where questions are answered.
        calibration: of the model as it is deployed, and "before" it was calibrated.
        coverage: by lowest score, for one label a row.
        entities: of each type {type, precision, recall, f1, number}, where words are tagged.
    """

    rows_called: str
    kind: str
    rows: int
    confusion: Mapping[str, Mapping[str, int]] | None = None
    labels: Mapping[str, Mapping[str, int]] | None = None
    calibration: Mapping[str, Any] | None = None
    answers: Mapping[str, int] | None = None
    coverage: Sequence[Mapping[str, float]] | None = None
    entities: Sequence[Mapping[str, Any]] | None = None


@dataclass
class Facts:
    """All that is known of a trained folder.

    Attributes:
        report: as in `report.json`; {} without `totals` where even the model cannot be read.
        loss, rate, sparsity: over the training; None where they were not logged.
        scores: of evaluations during the training.
        recipe: its text.
        deployment: the folder of the exported model.
        missing: what is not there, a line each.
    """

    folder: Path
    report: dict[str, Any]
    loss: Series | None = None
    eval_loss: Series | None = None
    rate: Series | None = None
    sparsity: Series | None = None
    scores: list[Series] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    recipe: str | None = None
    deployment: Path | None = None
    missing: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.folder.resolve().name


def read(folder: Path) -> Facts:
    """Read a trained folder.

    Raises:
        ReportError: there is no such folder, or no model in it.
    """
    if not folder.is_dir():
        raise ReportError(f"There is no folder {folder}. Give the --output_dir of a training.")
    report = _json(folder / _REPORT)
    facts = Facts(folder, report if isinstance(report, dict) and "totals" in report else _counted(folder))
    if not isinstance(report, dict):
        facts.missing.append(f"metrics and command: no {_REPORT}, so the model itself was counted")
    with well_formed(folder):
        _history(facts)
        _evaluations(facts)
    recipe = folder / checkpoint.RECIPE_FILE
    if recipe.is_file():
        facts.recipe = recipe.read_text(encoding="utf-8")
    else:
        facts.missing.append("recipe: the model was trained without one")
    facts.deployment = _deployment(folder, facts.report)
    if facts.deployment is None:
        facts.missing.append(
            f"latency and the size of the export: no {DEPLOYMENT}/ (`sparseml export {folder}` writes one)"
        )
    return facts


def _counted(folder: Path) -> dict[str, Any]:
    """The report of a folder that has none: its model is loaded and counted."""
    if not (folder / "config.json").is_file():
        raise ReportError(f"{folder} holds no trained model: neither report.json nor config.json is there.")
    from sparseml import report as reports
    from sparseml.session.models import load_config, load_trained, resolve
    from sparseml.tasks import task_of

    task = task_of(load_config(resolve(str(folder))))
    model = load_trained(folder, task.model_class)
    return reports.build(model, {}, [], None)


def _history(facts: Facts) -> None:
    """Fill in what `log_history` of `trainer_state.json` has."""
    state = _json(facts.folder / checkpoint.TRAINER_STATE_FILE)
    log = state.get("log_history", []) if isinstance(state, dict) else []
    log = [entry for entry in log if isinstance(entry, dict) and "epoch" in entry]
    facts.loss = _series(log, "loss", "training")
    facts.eval_loss = _series(log, "eval_loss", "validation")
    facts.rate = _series(log, "learning_rate", "learning rate")
    facts.sparsity = _sparsity(log)
    names = dict.fromkeys(name for entry in log for name in entry if name.startswith("eval_"))
    scores = [name for name in names if not any(word in name for word in _NOT_SCORES)]
    found = (_series(log, name, name.removeprefix("eval_").replace("_", " ")) for name in scores)
    facts.scores = [series for series in found if series is not None]
    absent = [
        text
        for there, text in (
            (facts.loss, "loss over time: no step was logged (--logging_steps)"),
            (facts.rate, "learning rate over time: no step was logged (--logging_steps)"),
            (
                facts.sparsity,
                "sparsity over time: the recipe holds no masks, or the training is an older one",
            ),
            (facts.scores, "scores by epoch: nothing was evaluated while training (--eval_strategy epoch)"),
        )
        if not there
    ]
    facts.missing += absent if log else ["loss, learning rate and sparsity over time: no log of a training"]


def _series(log: list[dict[str, Any]], key: str, name: str) -> Series | None:
    points = tuple(
        (float(entry["epoch"]), float(entry[key]))
        for entry in log
        if isinstance(entry.get(key), int | float) and math.isfinite(entry[key])
    )
    return Series(name, points) if points else None


def _sparsity(log: list[dict[str, Any]]) -> Series | None:
    """Sparsity is logged when it changes: it stays until the next change, and to the end."""
    changes = _series(log, SPARSITY, SPARSITY)
    if changes is None:
        return None
    points: list[tuple[float, float]] = []
    for epoch, value in changes.points:
        if points:
            points.append((epoch, points[-1][1]))
        points.append((epoch, value))
    end = max(float(entry["epoch"]) for entry in log)
    return Series(SPARSITY, (*points, (end, points[-1][1])))


def _evaluations(facts: Facts) -> None:
    """Fill in the evaluated rows; of a guided training's export where the model's own are not there."""
    for split, found in facts.report.get("evaluation", {}).items():
        names = ("confusion", "labels", "calibration", "answers", "coverage", "entities")
        known = {key: found.get(key) for key in names}
        facts.evaluations.append(
            Evaluation(f"the {split.replace('_', ' ')} rows", found["kind"], found["rows"], **known)
        )
    answers = facts.report.get("summary", {}).get("answers", {})
    if not facts.evaluations and "confusion" in answers:
        facts.evaluations.append(
            Evaluation(
                facts.report["summary"].get("rows_called", "evaluated rows"),
                answers["kind"],
                answers["rows"],
                answers["confusion"],
            )
        )
    if not facts.evaluations:
        facts.missing.append("confusion matrix and reliability diagram: no rows were evaluated (--do_eval)")


def _deployment(folder: Path, report: Mapping[str, Any]) -> Path | None:
    """The exported model: in the folder, or beside it, where `sparseml export` writes it."""
    inner, beside = folder / DEPLOYMENT, folder.resolve().parent / DEPLOYMENT
    for place in (inner, beside):
        made = _json(place / _REPORT)
        if not (place / _MODEL).is_file() or not isinstance(made, dict):
            continue
        # Beside a model there may lie another one's export.
        if place == inner or all(made.get(key) == report.get(key) for key in ("command", "layers")):
            return place
    return None


def export_size(facts: Facts) -> dict[str, int] | None:
    """The bytes of the exported model, as its export counted them; None without one."""
    if facts.deployment is None:
        return None
    made = _json(facts.deployment / _REPORT) or {}
    size: dict[str, int] | None = made.get("export", {}).get("size")
    return size


def _json(path: Path) -> Any:
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
