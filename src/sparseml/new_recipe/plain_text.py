"""Recipes for plain text: the zoo's, with the values that a model and a user's wishes ask for.

`sparseml sparsify` runs them, `sparseml recipe new --task masked_language_modeling` writes them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from sparseml.new_recipe.plan import SPARSITY, NewRecipeError
from sparseml.recipe import load_plan
from sparseml.recipe.source import read_source

if TYPE_CHECKING:
    from sparseml.session.models import Source

_ZOO: Final = "zoo:nlp/masked_language_modeling/encoder/pytorch/huggingface/text"
PRUNE: Final = f"{_ZOO}/pruned-none"
ADAPT: Final = f"{_ZOO}/adapted-none"

SPARSE: Final = 0.3
"""A model with more zeros than this among the weights that `PRUNE` prunes is a sparse one."""
_SAME: Final = 0.005


def encoder_sparsity(source: Source) -> float:
    """The share of zeros among the weights that the zoo's recipe prunes, read from a model's file.

    Raises:
        NewRecipeError: it has no such weights.
    """
    from safetensors import safe_open

    layer = re.compile(load_plan(PRUNE).variables["layers"].removeprefix("re:"))
    zeros = entries = 0
    for path in sorted(source.folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  no mapping
                if layer.match(name):
                    tensor = file.get_tensor(name)
                    entries += tensor.numel()
                    zeros += tensor.numel() - int(tensor.count_nonzero())
    if not entries:
        raise NewRecipeError(
            f"{source.called} has no Transformer layers in a model.safetensors: give an encoder such as BERT."
        )
    return zeros / entries


def adapts(zeros: float, sparsity: float | None) -> bool:
    """Whether a model of so many zeros keeps them, as it is to have no more; otherwise it is pruned."""
    return zeros > SPARSE and (sparsity is None or sparsity <= zeros + _SAME)


def teacher_of(model: str, sparse: bool) -> str:
    """`self` for a dense model; for a sparse one of the zoo its dense original.

    Raises:
        NewRecipeError: a sparse one that the zoo knows no original of.
    """
    from sparsezoo.resolve import indexed_name
    from sparsezoo.stub import PREFIX, is_stub

    if not sparse:
        return "self"
    if is_stub(model):
        name = (
            model.removeprefix(PREFIX).partition("?")[0].partition("@")[0].rpartition("/")[0] + "/base-none"
        )
        if indexed_name(name):
            return f"{PREFIX}{name}"
    raise NewRecipeError(
        f"{model} is sparse, and must learn from a dense model of the same kind: give --teacher, such as the model "
        "that it was pruned from."
    )


def variables(
    zeros: float, sparsity: float | None, mask_type: str | list[int], epochs: float | None = None
) -> dict[str, Any]:
    """The values of the recipe's variables; `epochs` are left as they are where they are None."""
    chosen: dict[str, Any] = {} if epochs is None else {"num_epochs": epochs}
    if adapts(zeros, sparsity):
        return chosen
    final = sparsity or SPARSITY
    chosen |= {"sparsity": final, "init_sparsity": round(max(min(0.5, 0.8 * final), zeros), 4)}
    return {**chosen, "mask_type": mask_type}


def text(recipe: str, values: Mapping[str, Any]) -> str:
    """A recipe's own text, comments and all, with other values for some of the variables at its root."""
    changed = read_source(recipe).text
    for name, value in values.items():
        changed, count = re.subn(rf"(?m)^{name}: .*$", f"{name}: {value}", changed)
        assert count == 1, f"{recipe} sets {name} once"
    return changed
