"""The structure of a recipe: which of its entries are modifiers, stages and variables."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from sparseml.recipe.plan import METADATA
from sparseml.recipe.source import clipped
from sparseml.recipe.yaml_reader import SCALARS, STANDARD, NodeReader, Pair, line_of

DEFAULT_GROUP = "modifiers"
_DROPPED_FIELDS = ("log_types",)  # written by old versions of SparseML, without effect
_TAG = re.compile(r"!(?:pytorch\.)?([A-Za-z_][\w.]*)")


@dataclass(frozen=True)
class ParsedModifier:
    """A modifier before evaluation."""

    tag: str
    fields: dict[str, Pair]
    line: int
    group: str


@dataclass
class Section:
    """The root of a recipe (without a name), or one of its stages, not yet evaluated."""

    name: str | None
    line: int
    variables: dict[str, Pair] = field(default_factory=dict)
    modifiers: list[ParsedModifier] = field(default_factory=list)
    metadata: Node | None = None


class RecipeParser:
    """Finds the sections of a recipe; a RecipeError for a misplaced entry, or no modifiers at all."""

    def __init__(self, reader: NodeReader) -> None:
        self.reader = reader
        self.error = reader.error

    def parse(self, root: Node) -> tuple[Section, list[Section]]:
        """The root section and its stages."""
        section = Section(None, line_of(root))
        stages: list[Section] = []
        if _is_tagged(root):
            section.modifiers = [self._modifier(root, DEFAULT_GROUP)]
        elif isinstance(root, SequenceNode):
            section.modifiers = self._group(root, DEFAULT_GROUP)
        elif isinstance(root, MappingNode):
            stages = self._entries(self.reader.pairs(root), section)
        else:
            raise self.error(
                f"a recipe is a mapping with lists of modifiers; found only the text {clipped(root.value)}.",
                root,
            )
        if section.modifiers and stages:
            raise self.error(
                f"there are modifiers both at the root (line {section.modifiers[0].line}) and in the stage "
                f"{stages[0].name!r} (line {stages[0].line}). Move them all into stages, or all out of them."
            )
        if not section.modifiers and not any(stage.modifiers for stage in stages):
            raise self.error(
                "it holds no modifiers. They stand in a list whose name contains 'modifiers', each with its "
                "!Tag, for example\n    training_modifiers:\n      - !EpochRangeModifier\n"
                "        start_epoch: 0\n        end_epoch: 3"
            )
        return section, stages

    def _entries(self, pairs: list[Pair], section: Section) -> list[Section]:
        """Add the entries of a root or a stage to `section`; return those that are stages."""
        stages = []
        for pair in pairs:
            if pair.name == METADATA:
                section.metadata = pair.node
            elif _is_tagged(pair.node):
                section.modifiers.append(self._modifier(pair.node, pair.name))
            elif isinstance(pair.node, SequenceNode) and "modifiers" in pair.name:
                section.modifiers.extend(self._group(pair.node, pair.name))
            elif isinstance(pair.node, MappingNode) and self._holds_modifiers(pair.node):
                stages.append(self._stage(pair, section))
            elif section.name is None and pair.name == "version":
                continue  # any version is read alike
            elif not self._is_empty_group(pair):
                section.variables[pair.name] = pair
        return stages

    def _stage(self, pair: Pair, parent: Section) -> Section:
        if parent.name is not None:
            raise self.error(f"the stage {pair.name!r} stands inside the stage {parent.name!r}.", pair.node)
        stage = Section(pair.name, pair.line)
        self._entries(self.reader.pairs(pair.node), stage)
        return stage

    def _holds_modifiers(self, node: Node) -> bool:
        return any(
            _is_tagged(value)
            or (
                isinstance(value, SequenceNode)
                and ("modifiers" in str(key.value) or any(map(_is_tagged, value.value)))
            )
            for key, value in node.value
        )

    def _is_empty_group(self, pair: Pair) -> bool:
        """Whether the entry is an empty list of modifiers; refuse what only resembles a list of modifiers."""
        node = pair.node
        if isinstance(node, SequenceNode):
            if any(map(_is_tagged, node.value)):
                raise self.error(
                    f"modifiers stand under {pair.name!r}, but the name of a list of modifiers contains "
                    f"'modifiers'. Call it {pair.name + '_modifiers'!r}, for example.",
                    node,
                )
            return False
        if "modifiers" not in pair.name:
            return False
        if isinstance(node, MappingNode):
            raise self.error(
                f"{pair.name!r} is a mapping; modifiers are a list, each with its !Tag:"
                f"{_suggestion(node, pair.name)}",
                node,
            )
        if str(node.value).lstrip().startswith("eval"):
            raise self.error(f"{pair.name!r} is an expression; modifiers are written out as a list.", node)
        return bool(node.tag == STANDARD + "null")

    def _group(self, node: Node, name: str) -> list[ParsedModifier]:
        return [self._modifier(item, name) for item in node.value]

    def _modifier(self, node: Node, group: str) -> ParsedModifier:
        match = _TAG.fullmatch(node.tag)
        if match is None:
            raise self.error(self._not_a_modifier(node, group), node)
        pairs: list[Pair] = []
        if isinstance(node, MappingNode):
            pairs = self.reader.pairs(node)
        elif isinstance(node, SequenceNode) or node.value:
            found = "a list" if isinstance(node, SequenceNode) else f"the text {clipped(node.value)}"
            raise self.error(
                f"{node.tag} is followed by {found}; its properties follow as `name: value`, one a line.",
                node,
            )
        fields = {pair.name: pair for pair in pairs if pair.name not in _DROPPED_FIELDS}
        return ParsedModifier(match[1], fields, line_of(node), group)

    def _not_a_modifier(self, node: Node, group: str) -> str:
        if not node.tag.startswith(STANDARD):
            name = node.tag.strip("!:")
            return f"{node.tag!r} is no modifier's tag; write one ! and the class name: !{name or 'Name'}."
        kind = node.tag.removeprefix(STANDARD)
        if kind not in ("map", "seq", *SCALARS):
            return f"!!{kind} is no modifier's tag; write it with one exclamation mark: !{kind}."
        found = {"map": "a mapping", "seq": "a list"}.get(kind) or clipped(str(node.value))
        return (
            f"an entry of {group!r} has no !Tag: found {found}. A modifier looks like"
            f"{_suggestion(node, group)}"
        )


def _is_tagged(node: Node) -> bool:
    return not node.tag.startswith(STANDARD)


def _suggestion(node: Node, group: str) -> str:
    """An example of a list of modifiers, with the class name that seems to be meant."""
    named = node
    if isinstance(node, MappingNode) and node.value:
        named = node.value[0][0]
    meant = isinstance(named, ScalarNode) and re.fullmatch(r"[A-Z]\w+", named.value)
    name = named.value if meant else "EpochRangeModifier"
    return f"\n    {group}:\n      - !{name}\n        start_epoch: 0"
