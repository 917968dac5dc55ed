"""The trials of a search as a table on the screen, and as a page with plots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from resparse.console import aligned
from sparseml.report_page import svg
from sparseml.report_page.html import document, section
from sparseml.report_page.html import table as html_table
from sparseml.search.space import Parameter, Range, described, shown
from sparseml.search.trials import DONE, PRUNED, Trial

TITLE = "Search"

_LOG_FROM = 10.0
"""Numbers that lie as far apart as this are drawn by their logarithms."""


def maximizes(metric: str) -> bool:
    """Whether a higher value of a metric is better."""
    return not metric.endswith(("loss", "mse", "mae", "rmse"))


def best_of(trials: Sequence[Trial], metric: str) -> Trial | None:
    """The best finished trial; of equal ones the one with the lower loss, then the first."""
    sign = 1.0 if maximizes(metric) else -1.0
    finished = [
        trial
        for trial in trials
        if trial.outcome is not None and trial.outcome.state == DONE and _finite(trial.value(metric))
    ]

    def rank(trial: Trial) -> tuple[float, float, int]:
        loss = trial.value("eval_loss")
        lower = -loss if loss is not None and math.isfinite(loss) else -math.inf
        return sign * float(trial.value(metric) or 0.0), lower, -trial.number

    return max(finished, key=rank, default=None)


def table(trials: Sequence[Trial], metric: str, names: Sequence[str]) -> object:
    """The trials in their order, the best one marked."""
    return aligned(_rows(trials, metric, names), _header(metric, names))


def page(trials: Sequence[Trial], metric: str, space: Sequence[Parameter], about: str) -> str:
    """The page: how the best one was found, each parameter against the metric, and the table."""
    names = [parameter.name for parameter in space]
    best = best_of(trials, metric)
    tiles = []
    if best is not None:
        tiles = [
            (f"{best.value(metric):.4g}", f"{_plain(metric)} of the best, trial {best.number}"),
            (f"{len(trials)}", "trials"),
            (
                f"{sum(trial.outcome.seconds for trial in trials if trial.outcome) / 60:.1f} min",
                "of training",
            ),
        ]
    head = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(what)}</span></div>' for value, what in tiles
    )
    parts = [
        section("Best setting", described(best.point), "") if best is not None else "",
        _course(trials, metric),
        *(_against(parameter, trials, metric) for parameter in space),
        section(
            "Trials",
            "In their order.",
            html_table(_header(metric, names), _rows(trials, metric, names)),
            True,
        ),
    ]
    return document(TITLE, about, f'<div class="tiles">{head}</div>', parts)


def _course(trials: Sequence[Trial], metric: str) -> str:
    """The metric of every trial, and the best so far."""
    finished = _finished(trials, metric)
    if not finished:
        return ""
    better = max if maximizes(metric) else min
    so_far: list[tuple[float, float]] = []
    for number, value in finished:
        so_far.append((number, better([value, *(before for _, before in so_far)])))
    drawn = svg.lines({"trial": finished, "best so far": so_far}, x_name="trial")
    return section(
        "Course", f"{_plain(metric)} of the validation rows, by trial; and the best so far.", drawn
    )


def _against(parameter: Parameter, trials: Sequence[Trial], metric: str) -> str:
    """Each finished trial's value of a parameter against its metric."""
    finished = [trial for trial in trials if _finite(trial.value(metric)) and parameter.name in trial.point]
    if not finished:
        return ""
    values = [trial.point[parameter.name] for trial in finished]
    numeric = all(isinstance(value, float | int) and not isinstance(value, bool) for value in values)
    logarithmic = numeric and _logarithmic(parameter, values)
    order = sorted(set(map(str, values)))
    places = [
        math.log10(float(value))
        if logarithmic
        else float(value)
        if numeric
        else float(order.index(str(value)))
        for value in values
    ]
    dots = [
        (
            place,
            float(trial.value(metric) or 0.0),
            f"trial {trial.number}: {described(trial.point)}: {trial.value(metric):.4g}",
            2 if trial.outcome is not None and trial.outcome.state == PRUNED else 1,
        )
        for place, trial in zip(places, finished, strict=True)
    ]
    called = f"log10 {parameter.name}" if logarithmic else parameter.name
    said = f"Against {_plain(metric)}." + ("" if numeric else f" From the left: {', '.join(order)}.")
    return section(parameter.name, said, svg.scatter(dots, called))


def _logarithmic(parameter: Parameter, values: Sequence[Any]) -> bool:
    if isinstance(parameter, Range):
        return parameter.log
    return min(values) > 0 and max(values) / min(values) >= _LOG_FROM


def _header(metric: str, names: Sequence[str]) -> tuple[str, ...]:
    return ("trial", *names, _plain(metric), "loss", "minutes", "")


def _rows(trials: Sequence[Trial], metric: str, names: Sequence[str]) -> list[tuple[str, ...]]:
    best = best_of(trials, metric)
    return [
        (
            str(trial.number),
            *(shown(trial.point.get(name, "")) for name in names),
            _number(trial.value(metric)),
            _number(trial.value("eval_loss")),
            f"{trial.outcome.seconds / 60:.1f}",
            "best" if trial is best else "" if trial.outcome.state == DONE else _state(trial),
        )
        for trial in trials
        if trial.outcome is not None
    ]


def _state(trial: Trial) -> str:
    assert trial.outcome is not None
    return f"{trial.outcome.state}: {trial.outcome.error}" if trial.outcome.error else trial.outcome.state


def _finished(trials: Sequence[Trial], metric: str) -> list[tuple[float, float]]:
    return [
        (float(trial.number), float(trial.value(metric) or 0.0))
        for trial in trials
        if trial.outcome is not None and trial.outcome.state == DONE and _finite(trial.value(metric))
    ]


def _number(value: float | None) -> str:
    return f"{value:.4f}" if value is not None and math.isfinite(value) else ""


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _plain(metric: str) -> str:
    return metric.removeprefix("eval_").replace("_", " ")
