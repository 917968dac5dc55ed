"""A recipe after evaluation: which modifiers, with which fields, from which lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class ModifierSpec:
    """One modifier of a recipe: its tag and its evaluated fields, not yet validated.

    Attributes:
        tag: the class name behind the `!`, such as "ConstantPruningModifier".
        fields: property names to evaluated values.
        line: 1-based line of the tag.
        field_lines: 1-based line of each property.
        group: the list that it stood in, such as "training_modifiers".
        stage: the stage that it stood in; None in a recipe without stages.
    """

    tag: str
    fields: dict[str, Any]
    line: int
    field_lines: dict[str, int] = field(default_factory=dict)
    group: str = "modifiers"
    stage: str | None = None


@dataclass(frozen=True)
class Plan:
    """An evaluated recipe.

    Attributes:
        source: what the user called the recipe; every error names it.
        modifiers: in the order of the text, stages in the order of their epochs.
        variables: root variables after overrides and evaluation.
        stage_variables: likewise for each stage, its own variables only.
        metadata: the `__metadata__` block, where there is one; that of a stage under the stage's name.
    """

    source: str
    modifiers: tuple[ModifierSpec, ...]
    variables: dict[str, Any] = field(default_factory=dict)
    stage_variables: dict[str, dict[str, Any]] = field(default_factory=dict)
    metadata: dict[str, Any] | None = None

    @property
    def stages(self) -> tuple[str | None, ...]:
        """The stages' names in the order of the modifiers; (None,) for a recipe without stages."""
        return tuple(dict.fromkeys(spec.stage for spec in self.modifiers))

    def with_metadata(self, metadata: Mapping[str, Any]) -> Plan:
        """The same plan with a `__metadata__` block of plain values, lists and dicts."""
        return replace(self, metadata=dict(metadata))

    def to_yaml(self) -> str:
        """The recipe as YAML text, with every variable and expression evaluated.

        `load_plan` reads it back to an equal plan, but for source and lines.
        """
        from sparseml.recipe.write import to_yaml

        return to_yaml(self)
