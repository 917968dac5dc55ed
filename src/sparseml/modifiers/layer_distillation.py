"""Distillation layer by layer: the student's hidden states, and its attention, come close to the teacher's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pydantic import Field, PrivateAttr, model_validator

from resparse.errors import did_you_mean
from sparseml.modifiers.base import Modifier, ModifierError, Outputs, Run, without_effect

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.utils.hooks import RemovableHandle

# The Linear layers of query and key, as Transformers' encoders call them inside a layer.
_QUERY, _KEY = ("query", "q_lin", "q"), ("key", "k_lin", "k")


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
    _projections: _Projections | None = PrivateAttr(None)
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
        self._projections = _Projections(run, self._loaded)

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
                for endings, place in ((_QUERY, self._queries), (_KEY, self._keys)):
                    self._record(_inside(modules[name], endings, name, who), place, index)

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


def _inside(layer: nn.Module, endings: Sequence[str], name: str, who: str) -> nn.Module:
    found = [module for path, module in layer.named_modules() if path.rpartition(".")[2] in endings]
    if len(found) != 1:
        raise ModifierError(
            f"{who}: {name} has no layer of its own for {endings[0]}: set attention_gain to 0 for this architecture."
        )
    return found[0]


class _Projections:
    """Linear maps from the student's states to the teacher's width, with an optimizer of their own.

    Of their own: the Trainer's optimizer and its schedule are there already when the widths are first seen. They learn
    at the rate of the run's first parameter group.
    """

    def __init__(self, run: Run, loaded: Mapping[str, torch.Tensor]) -> None:
        self._run = run
        self._loaded = loaded
        self._weights: dict[int, nn.Parameter] = {}
        self._optimizers: dict[int, torch.optim.Optimizer] = {}

    def project(self, index: int, states: torch.Tensor, width: int) -> torch.Tensor:
        """The states of pair `index`, [..., own width], in the teacher's width."""
        if index not in self._weights:
            self._create(index, states, width)
        return states.float() @ self._weights[index].T

    def step(self, run: Run) -> None:
        """Learn from the gradients that the backward pass has left."""
        import torch

        for index, weight in self._weights.items():
            if weight.grad is None:
                continue
            weight.grad /= run.gradient_scale
            if run.world_size > 1:
                torch.distributed.all_reduce(weight.grad)
                weight.grad /= run.world_size
            optimizer = self._optimizers[index]
            if run.optimizer is not None:
                optimizer.param_groups[0]["lr"] = run.optimizer.param_groups[0]["lr"]
            if weight.grad.isfinite().all():
                optimizer.step()
            optimizer.zero_grad()

    def state(self) -> dict[str, torch.Tensor]:
        """Weights and moments, `INDEX.weight`, `INDEX.exp_avg` and so on."""
        values = {
            key: value
            for key, value in self._loaded.items()
            if int(key.partition(".")[0]) not in self._weights
        }
        for index, weight in self._weights.items():
            values[f"{index}.weight"] = weight.detach()
            values |= {
                f"{index}.{key}": value for key, value in self._optimizers[index].state[weight].items()
            }
        return values

    def _create(self, index: int, states: torch.Tensor, width: int) -> None:
        import torch

        weight = self._loaded.get(f"{index}.weight")
        if weight is None:
            generator = torch.Generator().manual_seed(self._run.seed * 1_000_003 + index)
            weight = torch.randn(width, states.shape[-1], generator=generator) / states.shape[-1] ** 0.5
        parameter = torch.nn.Parameter(weight.clone().to(states.device))
        optimizer = torch.optim.AdamW([parameter], lr=1e-3, weight_decay=0.0)
        moments = {
            key.partition(".")[2]: value.clone()
            for key, value in self._loaded.items()
            if key.startswith(f"{index}.") and not key.endswith(".weight")
        }
        if moments:
            optimizer.state[parameter] = {
                key: value if key == "step" else value.to(states.device) for key, value in moments.items()
            }
        self._weights[index], self._optimizers[index] = parameter, optimizer


def _attention_log_shares(
    queries: torch.Tensor, keys: torch.Tensor, heads: int, mask: torch.Tensor | None
) -> torch.Tensor:
    import torch

    split = [each.float().unflatten(-1, (heads, -1)).transpose(1, 2) for each in (queries, keys)]
    products = split[0] @ split[1].transpose(-1, -2) / split[0].shape[-1] ** 0.5
    if mask is not None:
        products = products.masked_fill(mask[:, None, None, :] == 0, float("-inf"))
    return torch.log_softmax(products, dim=-1)
