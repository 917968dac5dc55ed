"""Distillation layer by layer: the student's hidden states, and its attention, come close to the teacher's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field, PrivateAttr, model_validator

from resparse.console import say
from sparseml.modifiers.base import Modifier, ModifierError, Outputs, Run, without_effect
from sparseml.modifiers.layer_outputs import (
    Recorder,
    attention_distance,
    hidden_state_distance,
    paired_layers,
)
from sparseml.modifiers.projections import Projections

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sparseml.modifiers.resized import Resized


class PerLayerDistillationModifier(Modifier):
    """Adds to the loss the distance of hidden states to the teacher's, summed over layers.

    loss, as the modifiers before it in the recipe left it, + gain * sum of the layers' mean squared differences, in
    shares of the teacher's mean square; Jiao et al. 2020, arXiv:1909.10351. The teacher runs on every batch, so it
    needs the student's vocabulary, and as many layers at least (see `optional`). Without a teacher the modifier does
    nothing.
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
    optional: bool = Field(
        False,
        description="whether a teacher whose hidden states cannot be compared, of another vocabulary or with fewer "
        "layers, is no error: then its logits alone are distilled",
    )
    update_frequency: float = without_effect(-1)

    _student: Recorder | None = PrivateAttr(None)
    _teacher: Recorder | None = PrivateAttr(None)
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

    @property
    def may_rest(self) -> bool:
        return self.optional

    def conflicts_with(self, other: Modifier) -> str | None:
        if isinstance(other, PerLayerDistillationModifier) and self.overlaps(other):
            return f"{self.name} and the one in line {other.place[1]} both distil at the same time: keep one."
        stands_later = (other.place[1] or 0) > (self.place[1] or 0)
        if stands_later and getattr(other, "hardness", 0) == 1 and self.overlaps(other):
            return (
                f"{other.name} in line {other.place[1]} has hardness 1, which leaves out of the loss what {self.name} "
                "adds before it: let it stand first."
            )
        return None

    def on_start(self, run: Run) -> None:
        """Record, from now on, what the chosen modules of both models return.

        Raises:
            ModifierError: a name is no module, the models' attention cannot be compared, or, unless it is `optional`,
                their layers.
        """
        if run.teacher is None:
            return
        try:
            ours, theirs = self._pairs(run.model, run.teacher)
        except ModifierError as error:
            if not self.optional:
                raise
            say(f"hidden states are not distilled. {error}")
            self.rest()
            return
        attends = self.attention_gain > 0
        if attends:
            self._check_heads(run.model, run.teacher)
        self._student = Recorder(run.model, ours, attends, self.name)
        self._teacher = Recorder(run.teacher, theirs, attends, self.name)
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
        return paired_layers(student, teacher, self.name)

    def _check_heads(self, student: Any, teacher: Any) -> None:
        ours, theirs = student.config.num_attention_heads, teacher.config.num_attention_heads
        if ours != theirs:
            raise ModifierError(
                f"{self.name}: attention_gain compares the heads of both models, but the student has {ours} and the "
                f"teacher {theirs}: set attention_gain to 0."
            )
