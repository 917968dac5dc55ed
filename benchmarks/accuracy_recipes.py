"""The recipes of the accuracy benchmark: the zoo's transfer recipe, with one part of it exchanged for each question."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from process import DENSE_RECIPE
from resparse.files import write_text
from sparsezoo import recipe_path
from sparsezoo.stub import is_stub

TRANSFER_RECIPE = "zoo:nlp/text_classification/minilm-l6/pytorch/huggingface/default/pruned80_quant-none"

SPARSITY = 0.8
"""Of what is pruned here: that of the first pruned start."""

CALIBRATION_BATCHES = 64

_ENCODER = '["re:bert.encoder.*weight"]'

_ONE_SHOT = f"""\
pruning_modifiers:
  - !GlobalMagnitudePruningModifier
      params: {_ENCODER}
      init_sparsity: 0.0
      final_sparsity: {SPARSITY}
      start_epoch: 0.0
      end_epoch: 0.0
      update_frequency: 1.0
"""

# To the final sparsity in the first half of the training; quantization follows at seven tenths.
_GRADUAL = f"""\
pruning_modifiers:
  - !GlobalMagnitudePruningModifier
      params: {_ENCODER}
      init_sparsity: 0.0
      final_sparsity: {SPARSITY}
      start_epoch: 0.0
      end_epoch: eval(0.5 * num_epochs)
      update_frequency: 0.1
"""

_SOLVER = f"""\
pruning_modifiers:
  - !LayerwisePruningModifier
      params: [re:bert.encoder.*(query|key|value|dense).weight]
      final_sparsity: {SPARSITY}
      global_sparsity: true
      num_calibration_steps: {CALIBRATION_BATCHES}
      start_epoch: 0.0
"""

_GAINS = {"logits_only": 0.0, "hidden_states_weak": 0.2}
"""The recipe's gain of hidden states, by variant."""


class Sections:
    """A recipe's text by its parts: the variables on top, and each list of modifiers under its name."""

    def __init__(self, text: str) -> None:
        parts = re.split(r"^(?=\w+_modifiers:)", text, flags=re.MULTILINE)
        self.variables = parts[0]
        self.lists = {part.partition(":")[0]: part for part in parts[1:]}

    def __str__(self) -> str:
        return "\n".join(part.rstrip() + "\n" for part in (self.variables, *self.lists.values()))


def _prune(text: str) -> Callable[[Sections], None]:
    def change(recipe: Sections) -> None:
        del recipe.lists["constant_modifiers"]
        recipe.lists["pruning_modifiers"] = text

    return change


def _leave_float(recipe: Sections) -> None:
    del recipe.lists["quantization_modifiers"]


def _only_quantize(recipe: Sections) -> None:
    quantize = recipe.lists["quantization_modifiers"].rstrip()
    # In one shot everything starts at once, and calibration alone decides the ranges.
    lines = [line for line in quantize.splitlines() if "_epoch:" not in line]
    recipe.lists = {
        "quantization_modifiers": "\n".join([*lines, f"      num_calibration_steps: {CALIBRATION_BATCHES}"])
    }


CHANGES: dict[str, Callable[[Sections], None]] = {
    "one_shot": _prune(_ONE_SHOT),
    "gradual": _prune(_GRADUAL),
    "solver": _prune(_SOLVER),
    "float": _leave_float,
    "calibrate": _only_quantize,
}
"""What each variant of the transfer recipe changes in it."""


def recipe_of(
    kind: str,
    folder: Path,
    transfer: str = TRANSFER_RECIPE,
    calibration_batches: int = CALIBRATION_BATCHES,
) -> str:
    """A recipe as the training command takes it: `dense`, `transfer`, or a variant, written into `folder`.

    Args:
        calibration_batches: of the variants that calibrate.
    """
    if kind == "dense":
        return DENSE_RECIPE
    if kind == "transfer" or kind in _GAINS:
        return transfer
    path = recipe_path(transfer) if is_stub(transfer) else Path(transfer)
    recipe = Sections(path.read_text(encoding="utf-8"))
    CHANGES[kind](recipe)
    changed = str(recipe).replace(
        f"num_calibration_steps: {CALIBRATION_BATCHES}", f"num_calibration_steps: {calibration_batches}"
    )
    path = folder / f"{kind}.yaml"
    if not path.is_file() or path.read_text(encoding="utf-8") != changed:
        write_text(path, changed)
    return str(path)


def variables_of(kind: str, epochs: int, rate: float) -> dict[str, float]:
    """The recipe's variables; when int8 begins follows from the epochs in the recipe."""
    if kind == "calibrate":
        return {}
    variables = {"num_epochs": epochs, "init_lr": rate}
    if kind in _GAINS:
        variables["hidden_states_gain"] = _GAINS[kind]
    return variables
