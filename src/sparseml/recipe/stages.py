"""One plan after another, as stages: the recipe of a checkpoint, then the one that trains it further."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

from sparseml.recipe.errors import RecipeError
from sparseml.recipe.plan import ModifierSpec, Plan


def compose(base: Plan, following: Plan) -> Plan:
    """A staged plan in which `following` begins where `base` ends.

    Every `*_epoch` field of `following` is shifted by `end_of(base)`; negative epochs ("at once", "never")
    stay. Plans without stages become stages, and stages of the form `stage_N` are numbered anew in order;
    other names stay, with a number behind them where they would stand twice.

    Raises:
        RecipeError: an epoch that is not a number.
    """
    names = _unique_names([*base.stages, *following.stages])
    first = _staged(base, names[: len(base.stages)], 0)
    second = _staged(following, names[len(base.stages) :], end_of(base))
    metadata = {**(first.metadata or {}), **(second.metadata or {})}
    return Plan(
        source=f"{base.source} + {following.source}",
        modifiers=first.modifiers + second.modifiers,
        stage_variables=first.stage_variables | second.stage_variables,
        metadata=metadata or None,
    )


def end_of(plan: Plan) -> int:
    """The last epoch at which a modifier starts or ends, rounded up; 0 where none says."""
    epochs = (
        _epoch(spec, name, plan.source) for spec in plan.modifiers for name in ("start_epoch", "end_epoch")
    )
    return max((math.ceil(epoch) for epoch in epochs if epoch is not None and epoch > 0), default=0)


def _staged(plan: Plan, names: list[str], shift: int) -> Plan:
    """The plan with its stages renamed, the root's variables in each of them, and its epochs shifted."""
    renamed = dict(zip(plan.stages, names, strict=True))
    metadata = plan.metadata
    if metadata is not None:
        if None in renamed:
            metadata = {renamed[None]: metadata}
        else:
            metadata = {renamed.get(key, key): value for key, value in metadata.items()}
    return replace(
        plan,
        modifiers=tuple(
            replace(spec, stage=renamed[spec.stage], fields=_shifted(spec, shift, plan.source))
            for spec in plan.modifiers
        ),
        stage_variables={
            name: plan.variables | plan.stage_variables.get(stage or "", {})
            for stage, name in renamed.items()
        },
        metadata=metadata,
    )


def _shifted(spec: ModifierSpec, shift: int, source: str) -> dict[str, Any]:
    fields = dict(spec.fields)
    for name in fields:
        epoch = _epoch(spec, name, source) if name.endswith("_epoch") else None
        if epoch is not None and epoch >= 0:
            fields[name] = epoch + shift
    return fields


def _epoch(spec: ModifierSpec, name: str, source: str) -> int | float | None:
    value = spec.fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RecipeError(
            f"{name} of {spec.tag} is {value!r}; an epoch is a number.",
            source,
            spec.field_lines.get(name, spec.line),
        )
    return value


def _unique_names(stages: list[str | None]) -> list[str]:
    names: list[str] = []
    for position, stage in enumerate(stages):
        numbered = stage is None or re.fullmatch(r"stage_\d+", stage)
        name = f"stage_{position}" if numbered else str(stage)
        while name in names:
            name = f"{name}_{position}"
        names.append(name)
    return names
