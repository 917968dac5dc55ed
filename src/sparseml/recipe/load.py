"""A recipe's text to a plan: overrides are applied, then variables evaluated, then modifiers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from yaml.nodes import Node

from resparse.errors import did_you_mean
from sparseml.recipe.parse import RecipeParser, Section
from sparseml.recipe.plan import METADATA, ModifierSpec, Plan
from sparseml.recipe.source import RecipeError, Source, read_source
from sparseml.recipe.variables import RECIPE_ARGS, Scope, Variable, parse_overrides
from sparseml.recipe.yaml_reader import NodeReader, root_node


def load_plan(recipe: str | Path, recipe_args: str | Mapping[str, Any] | None = None) -> Plan:
    """Read and evaluate a recipe: a path, a `zoo:` stub, or the text; see `read_source`.

    `recipe_args` are new values for variables that the recipe sets, at its root or in a stage: a mapping, a JSON
    object, or `name=value,name=value`.

    Raises:
        RecipeError: with the source, the line, what was found, why it is wrong and what would be right.
    """
    source = read_source(recipe)
    try:
        overrides = parse_overrides(recipe_args)
        return _evaluate(source, root_node(source), overrides)
    except RecursionError:
        raise RecipeError(
            "its values, or the variables in them, are nested too deeply.", source.name
        ) from None


def _evaluate(source: Source, root: Node, overrides: dict[str, Any]) -> Plan:
    reader = NodeReader(source.name)
    root_section, stages = RecipeParser(reader).parse(root)
    sections = [root_section, *stages]
    _check_overridden_names(overrides, sections, source.name)
    reader = NodeReader(source.name, _replacements(overrides, sections))

    root_scope = Scope(_variables(root_section, overrides, reader), source.name)
    scopes = [root_scope]
    scopes += [Scope(_variables(stage, overrides, reader), source.name, root_scope) for stage in stages]
    modifiers = [_specs(section, scope, reader) for section, scope in zip(sections, scopes, strict=True)]
    plan = Plan(
        source=source.name,
        modifiers=tuple(spec for specs in _sort_sections(modifiers) for spec in specs),
        variables=root_scope.values(),
        stage_variables={
            stage.name: scope.values()
            for stage, scope in zip(stages, scopes[1:], strict=True)
            if stage.name and stage.modifiers
        },
        metadata=_metadata(root_section, stages, reader),
    )
    _check_overrides_used(overrides, sections, scopes, reader)
    return plan


def _specs(section: Section, scope: Scope, reader: NodeReader) -> list[ModifierSpec]:
    return [
        ModifierSpec(
            tag=modifier.tag,
            fields={name: scope.evaluate(reader.value(pair.node)) for name, pair in modifier.fields.items()},
            line=modifier.line,
            field_lines={name: pair.line for name, pair in modifier.fields.items()},
            group=modifier.group,
            stage=section.name,
        )
        for modifier in section.modifiers
    ]


def _variables(section: Section, overrides: dict[str, Any], reader: NodeReader) -> dict[str, Variable]:
    return {
        name: Variable(overrides[name], None)
        if name in overrides and not pair.owns
        else Variable(reader.value(pair.node), None if name in overrides else pair.line)
        for name, pair in section.variables.items()
    }


def _replacements(overrides: dict[str, Any], sections: Iterable[Section]) -> dict[int, Any]:
    """Values by the node that they replace, so that aliases of a changed variable's anchor follow."""
    return {
        id(section.variables[name].node): value
        for section in sections
        for name, value in overrides.items()
        if name in section.variables and section.variables[name].owns
    }


def _check_overridden_names(overrides: dict[str, Any], sections: list[Section], source: str) -> None:
    known = {name for section in sections for name in section.variables}
    for name in overrides:
        if name not in known:
            advice = did_you_mean(name, known) if known else "It sets no variables."
            raise RecipeError(
                f"there is no variable {name!r} in {source}; only variables that the recipe sets can be "
                f"changed. {advice}",
                RECIPE_ARGS,
            )


def _check_overrides_used(
    overrides: dict[str, Any], sections: list[Section], scopes: list[Scope], reader: NodeReader
) -> None:
    """Refuse to override a variable that nothing uses, as in a saved recipe, whose expressions are evaluated."""
    for name in overrides:
        places = [
            (section.variables[name], scope)
            for section, scope in zip(sections, scopes, strict=True)
            if name in section.variables
        ]
        if not any(name in scope.used or reader.uses.get(id(pair.node), 0) > 1 for pair, scope in places):
            raise RecipeError(
                f"nothing in {reader.source} uses the variable {name!r}, so changing it changes nothing. "
                f"Write eval({name}) where it is meant (a recipe saved with a model holds numbers there), "
                "or leave it out.",
                RECIPE_ARGS,
            )


def _metadata(root_section: Section, stages: list[Section], reader: NodeReader) -> dict[str, Any] | None:
    """The root's `__metadata__`, with that of a stage under the stage's name."""
    result: dict[str, Any] | None = None
    for section in [root_section, *stages]:
        if section.metadata is None:
            continue
        block = reader.value(section.metadata, expressions=False)
        if block is None:
            continue
        if not isinstance(block, dict):
            raise reader.error(f"{METADATA} holds names and values; found {block!r:.60}.", section.metadata)
        result = {**(result or {}), **(block if section.name is None else {section.name: block})}
    return result


def _sort_sections(sections: list[list[ModifierSpec]]) -> list[list[ModifierSpec]]:
    """Sections by their first start and last end; one without a start stays behind the one before it."""
    keyed = []
    key = (0.0, 0.0)
    for position, specs in enumerate(sections):
        if starts := _epochs(specs, "start_epoch"):
            key = (min(starts), max(_epochs(specs, "end_epoch"), default=0.0))
        keyed.append((key, position, specs))
    return [specs for _, _, specs in sorted(keyed, key=lambda item: item[:2])]


def _epochs(specs: list[ModifierSpec], name: str) -> list[float]:
    """A field's epochs from 0 on: negative ones mean "at once" or "never", invalid ones are refused later."""
    values = [spec.fields.get(name) for spec in specs]
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    return [number for number in numbers if number >= 0 and math.isfinite(number)]
