"""Distillation layer by layer: the student's hidden states, and its attention, come close to the teacher's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pydantic import Field, PrivateAttr, model_validator

from resparse.errors import did_you_mean
from sparseml.modifiers.base import Modifier, ModifierError, Outputs, Run, without_effect
from sparseml.modifiers.projections import Projections
from sparseml.modifiers.units import ATTENTION

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.utils.hooks import RemovableHandle

    from sparseml.modifiers.resized import Resized


def hidden_state_distance(
    student: torch.Tensor,
    teacher: torch.Tensor,
    mask: torch.Tensor | None = None,
    normalize: bool = True,
    epsilon: float = 1e-6,
) -> torch.Tensor:
    """The mean squared difference of two hidden states; a scalar, in float32.

    Args:
        student, teacher: [batch, tokens, width].
        mask: [batch, tokens], 0 at padding, which is left out; None where there is none.
        normalize: in shares of the teacher's mean square, so that all layers count alike.
        epsilon: added to that mean square.
    """
    import torch
    import torch.nn.functional as F

    source, target = student.float(), teacher.float()
    if mask is None:
        distance = F.mse_loss(source, target)
        scale = torch.linalg.vector_norm(target).square() / target.numel()
    else:
        weight = mask.unsqueeze(-1).to(target.dtype)
        entries = weight.sum() * target.shape[-1]
        distance = ((source - target).square() * weight).sum() / entries
        scale = (target.square() * weight).sum() / entries
    return distance / (scale + epsilon) if normalize else distance


def attention_distance(
    student: tuple[torch.Tensor, torch.Tensor],
    teacher: tuple[torch.Tensor, torch.Tensor],
    heads: int,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """KL(teacher || student) of the attention distributions, mean over heads and query tokens; a scalar.

    Wang et al. 2020, arXiv:2002.10957. Positions that an architecture adds to the products are not part of it.

    Args:
        student, teacher: queries and keys, each [batch, tokens, heads * size of a head].
        heads: their number, the same in both.
        mask: [batch, tokens], 0 at padding.
    """
    import torch

    ours, theirs = (_attention_log_shares(*pair, heads, mask) for pair in (student, teacher))
    divergence = torch.where(theirs.isfinite(), theirs.exp() * (theirs - ours), 0.0).sum(-1)
    if mask is None:
        return divergence.mean()
    queries = mask[:, None, :].to(divergence.dtype)
    return (divergence * queries).sum() / (queries.sum() * heads)


class PerLayerDistillationModifier(Modifier):
    """Adds to the loss the distance of hidden states to the teacher's, summed over layers.

    loss + gain * sum of the layers' mean squared differences, in shares of the teacher's mean square; Jiao et al.
    2020, arXiv:1909.10351. The teacher runs on every batch, so it needs the student's vocabulary. Without a
    teacher the modifier does nothing.
    """

    label = "layer distillation"
    needs_teacher = True
    needs_teacher_model = True

    gain: float = Field(1.5, ge=0, description="the factor on the distances of hidden states")
    attention_gain: float = Field(
        0.0, ge=0, description="the factor on the divergences of attention; 0 leaves attention out"
    )
    normalize: bool = Field(True, description="whether distances are shares of the teacher's mean square")
    epsilon: float = Field(1e-6, gt=0, description="added to that mean square")
    student_layer_names: list[str] | None = Field(
        None,
        description="modules of the student whose outputs are compared; by default its Transformer layers",
    )
    teacher_layer_names: list[str] | None = Field(
        None,
        description="the teacher's, one for each of the student's; by default its layers at equal distances, the "
        "last for the last",
    )
    project_features: bool = Field(
        True, description="learn a projection where the teacher's states have another width"
    )
    update_frequency: float = without_effect(-1)

    _student: _Recorder | None = PrivateAttr(None)
    _teacher: _Recorder | None = PrivateAttr(None)
    _projections: Projections | None = PrivateAttr(None)
    _loaded: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _names_pair(self) -> PerLayerDistillationModifier:
        ours, theirs = self.student_layer_names, self.teacher_layer_names
        if (ours is None) != (theirs is None):
            raise ValueError("give both student_layer_names and teacher_layer_names, or neither")
        if ours is not None and theirs is not None and (len(ours) != len(theirs) or not ours):
            raise ValueError(
                f"student_layer_names has {len(ours)} names and teacher_layer_names {len(theirs)}: give a pair a layer"
            )
        return self

    def conflicts_with(self, other: Modifier) -> str | None:
        if isinstance(other, PerLayerDistillationModifier) and self.overlaps(other):
            return f"{self.name} and the one in line {other.place[1]} both distil at the same time: keep one."
        return None

    def on_start(self, run: Run) -> None:
        """Record, from now on, what the chosen modules of both models return.

        Raises:
            ModifierError: a name is no module, or the models' attention cannot be compared.
        """
        if run.teacher is None:
            return
        ours, theirs = self._pairs(run.model, run.teacher)
        attends = self.attention_gain > 0
        if attends:
            self._check_heads(run.model, run.teacher)
        self._student = _Recorder(run.model, ours, attends, self.name)
        self._teacher = _Recorder(run.teacher, theirs, attends, self.name)
        self._projections = Projections(run, self._loaded)

    def follow(self, run: Run, resized: Resized) -> None:
        """Layers are gone, or have other numbers: compare those that are left."""
        if self._student is None or self._teacher is None or run.teacher is None:
            return
        if self.student_layer_names is not None:
            raise ModifierError(
                f"{self.name}: the model's layers change while student_layer_names names them: leave the names out."
            )
        projections = self._projections
        self.on_end(run)
        self.on_start(run)
        self._projections = projections

    def mix_loss(
        self, run: Run, loss: torch.Tensor, outputs: Outputs, teacher_outputs: Outputs
    ) -> torch.Tensor:
        if self._student is None or self._teacher is None or not teacher_outputs:
            return loss
        states, attention = self._distances(run)
        if states:
            loss = loss + self.gain * sum(states)
        return loss + self.attention_gain * sum(attention) if attention else loss

    def after_backward(self, run: Run) -> None:
        if self._projections is not None:
            self._projections.step(run)

    def on_end(self, run: Run) -> None:
        for recorder in (self._student, self._teacher):
            if recorder is not None:
                recorder.release()
        self._student = self._teacher = None

    def state(self, run: Run) -> dict[str, torch.Tensor]:
        return self._projections.state() if self._projections is not None else dict(self._loaded)

    def load_state(self, state: Mapping[str, torch.Tensor], run: Run) -> None:
        self._loaded = dict(state)

    def _distances(self, run: Run) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Of the batch that both models have just processed: of each pair's states, and of each pair's attention."""
        assert self._student is not None and self._teacher is not None
        mask = run.batch.get("attention_mask")
        states = [
            hidden_state_distance(self._fitted(index, *pair), pair[1], mask, self.normalize, self.epsilon)
            for index, pair in enumerate(zip(self._student.outputs, self._teacher.outputs, strict=True))
        ]
        if not self.attention_gain:
            return states, []
        config: Any = run.model.config
        heads = int(config.num_attention_heads)
        pairs = zip(self._student.attention, self._teacher.attention, strict=True)
        return states, [attention_distance(ours, theirs, heads, mask) for ours, theirs in pairs]

    def _fitted(self, index: int, states: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The student's states of a pair, projected where the teacher's have another width."""
        width, theirs = states.shape[-1], target.shape[-1]
        if width == theirs:
            return states
        if not self.project_features:
            raise ModifierError(
                f"{self.name}: the student's states have width {width} and the teacher's {theirs}: set "
                "project_features, or take a teacher of the same width."
            )
        assert self._projections is not None
        return self._projections.project(index, states, theirs)

    def _pairs(self, student: nn.Module, teacher: nn.Module) -> tuple[list[str], list[str]]:
        if self.student_layer_names is not None and self.teacher_layer_names is not None:
            return self.student_layer_names, self.teacher_layer_names
        ours, theirs = transformer_layers(student, self.name), transformer_layers(teacher, self.name)
        if len(theirs) < len(ours):
            raise ModifierError(
                f"{self.name}: the teacher has {len(theirs)} layers and the student {len(ours)}: name the pairs in "
                "student_layer_names and teacher_layer_names."
            )
        return ours, [theirs[-(-(index + 1) * len(theirs) // len(ours)) - 1] for index in range(len(ours))]

    def _check_heads(self, student: Any, teacher: Any) -> None:
        ours, theirs = student.config.num_attention_heads, teacher.config.num_attention_heads
        if ours != theirs:
            raise ModifierError(
                f"{self.name}: attention_gain compares the heads of both models, but the student has {ours} and the "
                f"teacher {theirs}: set attention_gain to 0."
            )


def transformer_layers(model: nn.Module, who: str) -> list[str]:
    """The names of an encoder's Transformer layers, in order.

    Raises:
        ModifierError: the model has no list of as many modules as its configuration says layers.
    """
    from torch import nn

    count = getattr(getattr(model, "config", None), "num_hidden_layers", None)
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return [f"{name}.{index}" for index in range(count)]
    raise ModifierError(
        f"{who}: the Transformer layers of this {type(model).__name__} are not known: name modules in "
        "student_layer_names and teacher_layer_names."
    )


@contextmanager
def comparing(
    student: nn.Module, teacher: nn.Module
) -> Iterator[Callable[[torch.Tensor | None], list[torch.Tensor]]]:
    """Yield a function from a batch's mask to the distance of each pair of layers, after both models have run on it.

    Layers pair as they do by default in training; pairs of different widths are left out.
    """
    modifier = PerLayerDistillationModifier()
    ours, theirs = modifier._pairs(student, teacher)
    recorders = (
        _Recorder(student, ours, False, modifier.name),
        _Recorder(teacher, theirs, False, modifier.name),
    )

    def distances(mask: torch.Tensor | None) -> list[torch.Tensor]:
        pairs = zip(recorders[0].outputs, recorders[1].outputs, strict=True)
        return [
            hidden_state_distance(one, other, mask)
            for one, other in pairs
            if one.shape[-1] == other.shape[-1]
        ]

    try:
        yield distances
    finally:
        for recorder in recorders:
            recorder.release()


class _Recorder:
    """The last outputs of chosen modules, and of the query and key layers inside them, by forward hooks.

    Attributes:
        outputs: of each module, [batch, tokens, width].
    """

    def __init__(self, model: nn.Module, names: Sequence[str], attends: bool, who: str) -> None:
        modules = dict(model.named_modules())
        self.outputs: list[Any] = [None] * len(names)
        self._queries: list[Any] = [None] * len(names)
        self._keys: list[Any] = [None] * len(names)
        self._hooks: list[RemovableHandle] = []
        for index, name in enumerate(names):
            if name not in modules:
                raise ModifierError(
                    f"{who}: {name!r} is no module of this {type(model).__name__}. {did_you_mean(name, modules)}"
                )
            self._record(modules[name], self.outputs, index)
            if attends:
                query, key = _queries_and_keys(modules[name], name, who)
                self._record(query, self._queries, index)
                self._record(key, self._keys, index)

    @property
    def attention(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Queries and keys of each module."""
        return list(zip(self._queries, self._keys, strict=True))

    def release(self) -> None:
        """Remove the hooks."""
        for hook in self._hooks:
            hook.remove()

    def _record(self, module: nn.Module, place: list[Any], index: int) -> None:
        def keep(_: nn.Module, __: Any, output: Any) -> None:
            place[index] = output[0] if isinstance(output, tuple) else output

        self._hooks.append(module.register_forward_hook(keep))


def _queries_and_keys(layer: nn.Module, name: str, who: str) -> tuple[nn.Module, nn.Module]:
    """The Linear layers of a Transformer layer's queries and keys."""
    modules = dict(layer.named_modules())
    for query, key, *_ in ATTENTION:
        if query in modules and key in modules:
            return modules[query], modules[key]
    raise ModifierError(
        f"{who}: where {name} has its queries and keys is not known: set attention_gain to 0 for this architecture."
    )


def _attention_log_shares(
    queries: torch.Tensor, keys: torch.Tensor, heads: int, mask: torch.Tensor | None
) -> torch.Tensor:
    import torch

    split = [each.float().unflatten(-1, (heads, -1)).transpose(1, 2) for each in (queries, keys)]
    products = split[0] @ split[1].transpose(-1, -2) / split[0].shape[-1] ** 0.5
    if mask is not None:
        products = products.masked_fill(mask[:, None, None, :] == 0, float("-inf"))
    return torch.log_softmax(products, dim=-1)
