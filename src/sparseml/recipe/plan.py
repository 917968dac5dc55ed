"""A recipe after evaluation: its modifiers and variables, written back as YAML, or joined with another as stages."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from sparseml.recipe.source import RecipeError
from sparseml.recipe.yaml_reader import STANDARD, Resolver

METADATA = "__metadata__"
_VERSION = "1.1.0"
_SHORT_LIST = 70


@dataclass(frozen=True)
class ModifierSpec:
    """One modifier of a recipe, evaluated but not validated; its tag without the `!`, and 1-based lines."""

    tag: str
    fields: dict[str, Any]
    line: int
    field_lines: dict[str, int] = field(default_factory=dict)
    group: str = "modifiers"
    stage: str | None = None


@dataclass(frozen=True)
class Plan:
    """An evaluated recipe."""

    source: str  # the user's name for the recipe, for errors
    modifiers: tuple[ModifierSpec, ...]  # in the order of the text, stages by their epochs
    variables: dict[str, Any] = field(default_factory=dict)  # of the root, evaluated
    stage_variables: dict[str, dict[str, Any]] = field(default_factory=dict)  # each stage's own
    metadata: dict[str, Any] | None = None  # the `__metadata__` block; a stage's under its name

    @property
    def stages(self) -> tuple[str | None, ...]:
        """The stages' names in the order of the modifiers; (None,) for a recipe without stages."""
        return tuple(dict.fromkeys(spec.stage for spec in self.modifiers))

    def to_yaml(self) -> str:
        """The recipe as YAML, evaluated; `load_plan` reads it back to an equal plan, but for source and lines."""
        sections: list[dict[str, Any]] = [{"version": _VERSION}]
        if self.metadata is not None:
            sections.append({METADATA: self.metadata})
        sections.append(self.variables)
        for stage in self.stages:
            specs = [spec for spec in self.modifiers if spec.stage == stage]
            if stage is None:
                sections.extend({name: value} for name, value in _groups(specs).items())
            else:
                sections.append({stage: self.stage_variables.get(stage, {}) | _groups(specs)})
        return "\n".join(_text(section) for section in sections if section)


def compose(base: Plan, following: Plan) -> Plan:
    """A staged plan in which `following` begins where `base` ends.

    Every `*_epoch` field of `following` is shifted by `end_of(base)`; negative epochs ("at once", "never") are not.
    Plans without stages become stages, and stages of the form `stage_N` are renumbered in order; other names stay,
    with a number appended where they would occur twice.
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
    """The last epoch at which a modifier starts or ends, rounded up; 0 where none is given."""
    names = ("start_epoch", "end_epoch")
    epochs = [_epoch(spec, name, plan.source) for spec in plan.modifiers for name in names]
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
        line = spec.field_lines.get(name, spec.line)
        raise RecipeError(f"{name} of {spec.tag} is {value!r}; an epoch is a number.", source, line)
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


def _groups(specs: list[ModifierSpec]) -> dict[str, Any]:
    groups: dict[str, list[ModifierSpec]] = {}
    for spec in specs:
        groups.setdefault(spec.group, []).append(spec)
    # A single modifier may have any name, a list only one that contains "modifiers".
    return {name: group if "modifiers" in name else group[0] for name, group in groups.items()}


class _Dumper(yaml.SafeDumper):
    # Texts are quoted where the reader would take them for another type.
    yaml_implicit_resolvers = Resolver.yaml_implicit_resolvers

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _represent_list(dumper: _Dumper, items: list[Any] | tuple[Any, ...]) -> yaml.Node:
    flat = not any(isinstance(item, list | tuple | dict | ModifierSpec) for item in items)
    short = len(str(items)) <= _SHORT_LIST
    return dumper.represent_sequence(f"{STANDARD}seq", items, flow_style=flat and short)


def _represent_str(dumper: _Dumper, text: str) -> yaml.Node:
    # Double quotes escape line breaks, so that every value stays on its line.
    style = '"' if re.search("[\n\r\x85\u2028\u2029]", text) else None
    return dumper.represent_scalar(f"{STANDARD}str", text, style)


def _represent_float(dumper: _Dumper, number: float) -> yaml.Node:
    if math.isfinite(number):
        return dumper.represent_scalar(f"{STANDARD}float", repr(number))
    return dumper.represent_float(number)


_Dumper.add_representer(
    ModifierSpec, lambda dumper, spec: dumper.represent_mapping(f"!{spec.tag}", spec.fields, flow_style=False)
)
_Dumper.add_representer(list, _represent_list)
_Dumper.add_representer(tuple, _represent_list)
_Dumper.add_representer(str, _represent_str)
_Dumper.add_representer(float, _represent_float)


def _text(section: dict[str, Any]) -> str:
    text: str = yaml.dump(
        section, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=math.inf, default_flow_style=False
    )
    # A blank line before each group of a stage.
    return re.sub(r"\n(?=  \S.*:\n    - !)", "\n\n", text)
