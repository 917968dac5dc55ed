"""What a new recipe says: its variables with their reasons, from the model, the data and the user's wishes.

Epochs, learning rate and the start of quantization are those of a guided training (`guided/sizing.py`); distillation,
quantized layers and weight decay are those of the recipe that it uses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

from resparse.errors import UserError
from sparseml.guided import sizing
from sparseml.modifiers.mask_shapes import MaskShape, parse_mask_type
from sparseml.new_recipe.methods import METHODS, Method, default_for
from sparseml.new_recipe.start import Start
from sparseml.recipe import Plan, load_plan

SPARSITY = 0.8
_GRADUAL_LONGER = 2
_PRUNING = (0.1, 0.5)
_ONE_SHOT_AT = 0.2
_LOWEST_RATE = 0.1
_AT_ONCE = "at once: until masks are held, training would fill the zeros that there are"


class NewRecipeError(UserError):
    """Wishes that contradict each other or the model."""


@dataclass(frozen=True)
class Wishes:
    """What the recipe is for; None where it is to be chosen.

    Attributes:
        start: the model.
        rows, classes: of the training data; `classes` is 1 for a score.
        pairs: whether a row has two texts.
        method: a name in `METHODS`.
        mask_shape: a `mask_type`.
        teacher: whether there will be one.
    """

    start: Start
    rows: int
    classes: int = 2
    pairs: bool = False
    sparsity: float | None = None
    int8: bool = True
    teacher: bool = False
    epochs: float | None = None
    method: str | None = None
    mask_shape: str | list[int] = "unstructured"


@dataclass(frozen=True)
class Variable:
    """A variable of the recipe: a value, and why it is that."""

    name: str
    value: Any
    why: str


@dataclass(frozen=True)
class Content:
    """All that `writer.py` writes.

    Attributes:
        method: None where nothing is pruned or kept.
        batch: rows in a batch that the epochs and the rate are meant for.
    """

    wishes: Wishes
    method: Method | None
    batch: int
    steps: int
    variables: list[Variable] = field(default_factory=list)


@cache
def bundled() -> Plan:
    """The recipe of guided trainings."""
    return load_plan(sizing.RECIPE)


def decide(wishes: Wishes) -> Content:
    """Decide everything that was not given.

    Raises:
        NewRecipeError: the wishes contradict each other or the model.
    """
    name = wishes.method or _method(wishes)
    sparsity = _sparsity(wishes, name)
    method = METHODS.get(name)
    usual = sizing.fit(wishes.rows, wishes.classes, width=wishes.start.width)
    longer = _GRADUAL_LONGER if method is not None and method.kind == "gradual" else 1
    epochs = wishes.epochs if wishes.epochs is not None else longer * usual.variables["num_epochs"]
    sized = sizing.fit(wishes.rows, wishes.classes, width=wishes.start.width, epochs=epochs)
    variables = _training(wishes, sized, longer)
    if method is not None and method.kind != "keep":
        assert sparsity is not None
        variables += _pruning(wishes, method, sparsity, sized)
    if wishes.int8:
        variables += _quantization(sized)
    if wishes.teacher:
        variables += _distillation()
    decay = bundled().variables["weight_decay"]
    none = "decay would move weights that the task has no use for; short trainings do better without"
    variables.append(Variable("weight_decay", decay, none))
    return Content(wishes, method, sized.batch, sized.steps, variables)


def _method(wishes: Wishes) -> str:
    """The method where none was named: keep zeros, unless more of them are wanted than there are."""
    start, wanted = wishes.start, wishes.sparsity
    if wanted == 0:
        if start.sparse:
            raise NewRecipeError(
                f"{start.shown} has {start.sparsity:.0%} zeros, which --sparsity 0 would lose. Leave --sparsity out, "
                "and they are kept; or start from a dense model."
            )
        return "none"
    if wanted is not None and wanted > start.sparsity + 0.01:
        return default_for(sparse=False)
    return default_for(start.sparse)


def _sparsity(wishes: Wishes, method: str) -> float | None:
    """The final sparsity; None where nothing is pruned."""
    start, wanted = wishes.start, wishes.sparsity
    if method == "none":
        return None
    shape = parse_mask_type(wishes.mask_shape)
    if method == "keep":
        _check_keep(wishes)
        return None
    if wanted == 0:
        raise NewRecipeError(f"--sparsity 0 prunes nothing: leave --pruning {method} out.")
    sparsity = wanted if wanted is not None else shape.most if shape.of else SPARSITY
    if not 0 < sparsity < 1:
        raise NewRecipeError(f"--sparsity {sparsity:g}: it is a share of zeros, between 0 and 1.")
    if shape.of and shape.share(sparsity) != shape.most:
        raise NewRecipeError(
            f"--mask_shape {wishes.mask_shape} makes a sparsity of {shape.most:g}, but --sparsity is {sparsity:g}."
        )
    if start.sparsity > sparsity:
        raise NewRecipeError(
            f"{start.shown} has {start.sparsity:.1%} zeros already, more than --sparsity {sparsity:g}. Leave "
            "--pruning out, and they are kept."
        )
    _check_shapes(shape, start)
    return sparsity


def _check_keep(wishes: Wishes) -> None:
    start = wishes.start
    if not start.sparse:
        raise NewRecipeError(
            f"{start.shown} is dense ({start.sparsity:.1%} zeros): there is nothing to keep. Choose another "
            f"--pruning: {', '.join(name for name in METHODS if name != 'keep')}."
        )
    if wishes.mask_shape != "unstructured":
        raise NewRecipeError(
            f"--mask_shape {wishes.mask_shape} is for zeros that are made; those of {start.shown} are kept as they "
            "are. Leave it out, or ask for a --sparsity above its own."
        )


def _check_shapes(shape: MaskShape, start: Start) -> None:
    for name, sizes in start.shapes.items():
        shape.check(name, sizes, "sparseml recipe new")


def _training(wishes: Wishes, sized: sizing.Sizing, longer: int) -> list[Variable]:
    per_epoch = max(1, -(-wishes.rows // sized.batch))
    length = (
        "as --epochs says"
        if wishes.epochs is not None
        else "so many steps a pruned encoder needs, within bounds that keep small data from being overfitted"
    )
    if longer > 1 and wishes.epochs is None:
        length += "; twice as many here, since the zeros are made meanwhile"
    rate = (
        f"3e-4 for 384 units and batches of 32, as measured; here {wishes.start.width} units and batches of "
        f"{sized.batch}: in proportion to the root of the batch, and inverse to the width"
    )
    epochs = f"{per_epoch:,} steps of {sized.batch} rows in an epoch, about {sized.steps:,} in all: {length}"
    return [
        Variable("num_epochs", _plain(sized.variables["num_epochs"]), epochs),
        Variable("init_lr", sized.variables["init_lr"], rate),
        Variable(
            "final_lr",
            bundled().variables["final_lr"],
            "down to nothing: the last steps settle what the first ones found",
        ),
    ]


def _pruning(wishes: Wishes, method: Method, sparsity: float, sized: sizing.Sizing) -> list[Variable]:
    epochs = float(sized.variables["num_epochs"])
    share = "as --sparsity says" if wishes.sparsity is not None else "what most encoders bear almost unharmed"
    goal = Variable("final_sparsity", sparsity, f"share of zeros in the encoder's matrices: {share}")
    if method.kind == "one_shot":
        at = 0.0 if wishes.start.sparse else round(_ONE_SHOT_AT * epochs, 2)
        when = "the model first learns the task, so that it is pruned for it; the rest is there to recover"
        if wishes.start.sparse:
            when = _AT_ONCE
        return [goal, Variable("pruning_epoch", at, when)]
    begin, end = (round(share * epochs, 2) for share in _PRUNING)
    first = "the new classifier learns first: it says what matters"
    if wishes.start.sparse:
        begin, first = 0.0, _AT_ONCE
    per_epoch = max(1, -(-wishes.rows // sized.batch))
    interval = round(max((end - begin) / method.updates, 1 / per_epoch), 4)
    return [
        goal,
        Variable("pruning_start_epoch", begin, first),
        Variable("pruning_end_epoch", end, "half of the training is left to recover"),
        Variable(
            "pruning_interval",
            interval,
            f"epochs between two updates, some {method.updates} in all: time to recover in between",
        ),
        Variable(
            "lowest_lr",
            float(f"{_LOWEST_RATE * sized.variables['init_lr']:.2g}"),
            "a tenth: while it is pruned, the rate falls to this and restarts at every update (arXiv:2203.07259)",
        ),
    ]


def _quantization(sized: sizing.Sizing) -> list[Variable]:
    embeddings = bundled().variables["quantize_embeddings"]
    return [
        Variable(
            "qat_start_epoch",
            sized.variables["qat_start_epoch"],
            "int8 for the last 30 %: the float model is nearly done, and rounding is soon learned",
        ),
        Variable(
            "observer_epoch",
            sized.variables["observer_epoch"],
            "ranges are held for the last 10 %: the weights settle on the grid that they will have",
        ),
        Variable("quantize_embeddings", embeddings, "1: the tables are int8 too, a quarter of their size"),
    ]


def _distillation() -> list[Variable]:
    known = bundled().variables
    return [
        Variable(
            "distill_hardness",
            known["distill_hardness"],
            "share of the teacher in the loss: its probabilities say more than the labels, 1 leaves those out",
        ),
        Variable(
            "distill_temperature",
            known["distill_temperature"],
            "softens both distributions, so that the smaller probabilities count",
        ),
        Variable(
            "hidden_states_gain",
            known["hidden_states_gain"],
            "the layers' outputs follow the teacher's, too: 1.3 points more on average than from its logits alone",
        ),
    ]


def _plain(number: float) -> float | int:
    return int(number) if float(number).is_integer() else number
