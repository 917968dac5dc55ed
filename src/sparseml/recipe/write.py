"""A plan to YAML text that a person can read and `load_plan` reads back."""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from sparseml.recipe.nodes import STANDARD, Resolver
from sparseml.recipe.parse import METADATA
from sparseml.recipe.plan import ModifierSpec, Plan

VERSION = "1.1.0"
_SHORT_LIST = 70


def to_yaml(plan: Plan) -> str:
    """See `Plan.to_yaml`."""
    sections: list[dict[str, Any]] = [{"version": VERSION}]
    if plan.metadata is not None:
        sections.append({METADATA: plan.metadata})
    sections.append(plan.variables)
    for stage in plan.stages:
        specs = [spec for spec in plan.modifiers if spec.stage == stage]
        if stage is None:
            sections.extend({name: value} for name, value in _groups(specs).items())
        else:
            sections.append({stage: plan.stage_variables.get(stage, {}) | _groups(specs)})
    return "\n".join(_text(section) for section in sections if section)


def _groups(specs: list[ModifierSpec]) -> dict[str, Any]:
    groups: dict[str, list[ModifierSpec]] = {}
    for spec in specs:
        groups.setdefault(spec.group, []).append(spec)
    # A single modifier may stand under any name, a list only under one that says so.
    return {name: group if "modifiers" in name else group[0] for name, group in groups.items()}


class _Dumper(yaml.SafeDumper):
    # What is quoted must be what the reader would otherwise take for a number.
    yaml_implicit_resolvers = Resolver.yaml_implicit_resolvers

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _represent_spec(dumper: _Dumper, spec: ModifierSpec) -> yaml.Node:
    return dumper.represent_mapping(f"!{spec.tag}", spec.fields, flow_style=False)


def _represent_list(dumper: _Dumper, items: list[Any] | tuple[Any, ...]) -> yaml.Node:
    flat = not any(isinstance(item, list | tuple | dict | ModifierSpec) for item in items)
    return dumper.represent_sequence(
        f"{STANDARD}seq", items, flow_style=flat and len(str(items)) <= _SHORT_LIST
    )


def _represent_str(dumper: _Dumper, text: str) -> yaml.Node:
    # With escapes instead of line breaks every value stays on its line.
    return dumper.represent_scalar(
        f"{STANDARD}str", text, '"' if re.search("[\n\r\x85\u2028\u2029]", text) else None
    )


def _represent_float(dumper: _Dumper, number: float) -> yaml.Node:
    if math.isfinite(number):
        return dumper.represent_scalar(f"{STANDARD}float", repr(number))
    return dumper.represent_float(number)


_Dumper.add_representer(ModifierSpec, _represent_spec)
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
