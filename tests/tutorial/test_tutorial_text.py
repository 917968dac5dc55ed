"""The tutorial's text: its recipes mean what ours do, and the docs list every block with its state."""

from __future__ import annotations

from typing import Any

import pytest

from sparseml.recipe import Plan, load_plan
from support import tutorial, tutorial_docs
from support.tutorial import Block

BLOCKS = tutorial.needed()
COMMANDS = {
    "pip": 1,
    "sparseml.transformers.train.text_classification": 3,
    "sparseml.transformers.text_classification": 6,
    "sparseml.transformers.export_onnx": 2,
    "head": 2,
}


def of(*kinds: str) -> list[Block]:
    return [block for block in BLOCKS if block.kind in kinds]


def state(block: Block) -> str:
    """What the table must say of a block."""
    if block.kind == "fragment":
        whole = next(other for other in of("training") if block.text.strip() in other.text)
        return f"part of {whole.number}"
    if tutorial.loaded(block):
        return "one line before"
    return {"install": "replaced", "recipe": "same plan"}.get(block.kind, "runs")


def test_every_block_is_known() -> None:
    """Nothing of the text is passed over because it was not recognized."""
    words = [block.words[0] for block in of("install", "training", "export", "shell")]
    assert {word: words.count(word) for word in words} == COMMANDS
    assert len(of("snippet")) == 6 and len(of("recipe")) == 3 and len(of("fragment")) == 1


def test_the_table_lists_every_block() -> None:
    rows = tutorial_docs.rows()
    assert [row.number for row in rows] == [block.number for block in BLOCKS]
    for row, block in zip(rows, BLOCKS, strict=True):
        missing = [word for word in row.words if word not in block.text]
        assert not missing, f"docs/tutorial.md, row {row.number}: {missing} is not in the block"
        assert row.state == state(block), f"docs/tutorial.md, row {row.number}"


def test_the_table_tells_blocks_apart() -> None:
    """No row's words stand in another block of its kind in the same section of the table."""
    for row, block in zip(tutorial_docs.rows(), BLOCKS, strict=True):
        if block.kind in ("training", "export"):
            alike = [other for other in of(block.kind) if all(word in other.words for word in row.words)]
            assert block in alike
            assert len(alike) == 1 or row.number == alike[0].number, f"row {row.number} means several blocks"


def plan_of(plan: Plan) -> tuple[Any, ...]:
    return [(spec.group, spec.tag, spec.fields) for spec in plan.modifiers], plan.variables


@pytest.mark.parametrize("block", of("recipe"), ids=str)
def test_printed_recipes_are_the_bundled_ones(block: Block) -> None:
    """Each is the recipe that the training above it names."""
    (*_, training) = (other for other in of("training") if other.number < block.number)
    bundled = training.option("recipe")
    assert bundled is not None and bundled.startswith("zoo:")
    printed = load_plan(block.text)
    ours, theirs = plan_of(load_plan(bundled)), plan_of(printed)
    assert ours[0] == theirs[0]
    assert ours[1] == theirs[1]
    assert plan_of(load_plan(printed.to_yaml()))[0] == theirs[0]
