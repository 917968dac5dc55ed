"""A recipe applied once to a finished model, without training, on its way to the export."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sparseml.modifiers.base import Batch
from sparseml.recipe import compose, load_plan
from sparseml.session.session import Session

if TYPE_CHECKING:
    from sparseml.export.trained import Trained
    from sparseml.export.verify import Row

_BATCH = 16
_MOST = 512


def apply_once(trained: Trained, recipe: str, rows: Sequence[Row]) -> None:
    """Apply a recipe in place; activation ranges are taken from the rows.

    Raises:
        RecipeError, ModifierError: the recipe cannot be carried out on this model.
    """
    plan = load_plan(recipe)
    session = Session(plan, trained.model, allow_dense_start=True)

    def batches() -> Iterator[Batch]:
        for start in range(0, min(len(rows), _MOST), _BATCH):
            yield dict(
                trained.tokenizer(
                    *map(list, zip(*rows[start : start + _BATCH], strict=True)),
                    truncation=True,
                    max_length=trained.limit,
                    padding=True,
                    return_tensors="pt",
                )
            )

    session.run.batches = batches
    session.apply_once()
    session.finish()
    trained.model.eval()
    trained.plan = plan if trained.plan is None else compose(trained.plan, plan)
