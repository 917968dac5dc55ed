"""Movement pruning: the weights that training moves towards zero go (Sanh, Wolf and Rush 2020, arXiv:2005.07683)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import PrivateAttr

from sparseml.modifiers.base import ModifierError, Run
from sparseml.modifiers.pruning import GradualPruningModifier

if TYPE_CHECKING:
    import torch

    from sparseml.modifiers.resized import Resized


class MovementPruningModifier(GradualPruningModifier):
    """Prunes the weights that training moves towards zero, of each parameter the same share.

    Sanh, Wolf and Rush 2020, arXiv:2005.07683: the score of a weight is the sum over the steps of -weight x gradient.
    A pruned weight keeps its value for the score, and comes back with it when its score has grown. The first masks,
    before any step, are by magnitude.
    """

    one_shot = True  # so that it refuses
    hooks_gradients = False
    may_return = True

    _scores: dict[str, torch.Tensor] = PrivateAttr(default_factory=dict)
    _values: dict[str, torch.Tensor] = PrivateAttr(default_factory=dict)
    """What pruned weights were when they were pruned; 0 elsewhere."""

    def on_start(self, run: Run) -> None:
        if run.one_shot:
            raise ModifierError(
                f"{self.name} ranks weights by how training moves them, and --one_shot does not train: use "
                "!MagnitudePruningModifier, or train with the recipe."
            )
        if run.step == self.first_step(run.clock):
            self._scores, self._values = {}, {}
        super().on_start(run)
        self._forget_after_the_end(run, run.step)

    def after_backward(self, run: Run) -> None:
        """Add the step's -weight x gradient to the scores, then zero the gradients of pruned weights."""
        if run.step < self.final_step(run.clock):
            for name, parameter in self.parameters(run).items():
                self._add(run, name, parameter)
        self._masks.zero_gradients()

    def after_step(self, run: Run) -> None:
        super().after_step(run)
        self._forget_after_the_end(run, run.step + 1)

    def scores(self, run: Run, parameters: Mapping[str, torch.nn.Parameter]) -> dict[str, torch.Tensor]:
        """The sums so far; magnitudes before the first step."""
        return {
            name: self._scores[name] if name in self._scores else parameter.detach().abs()
            for name, parameter in parameters.items()
        }

    def set_masks(self, run: Run, pruned: dict[str, torch.Tensor]) -> None:
        """Restore the weights that come back, and store those that go."""
        import torch

        with torch.no_grad():
            for name, parameter in self.parameters(run).items():
                whole = self._unpruned(name, parameter)
                self._values[name] = torch.where(pruned[name], whole, 0.0)
                parameter.copy_(whole)
        super().set_masks(run, pruned)

    def follow(self, run: Run, resized: Resized) -> None:
        self._scores, self._values = resized.follow(self._scores), resized.follow(self._values)
        super().follow(run, resized)

    def state(self, run: Run) -> dict[str, torch.Tensor]:
        scores = {f"{name}.score": score for name, score in self._scores.items()}
        values = {f"{name}.value": value for name, value in self._values.items()}
        return super().state(run) | scores | values

    def load_state(self, state: Mapping[str, torch.Tensor], run: Run) -> None:
        super().load_state(state, run)
        for ending, target in ((".score", self._scores), (".value", self._values)):
            target.clear()
            target.update(
                {
                    name: state[name + ending].to(run.model.get_parameter(name).device, copy=True)
                    for name in (key.removesuffix(ending) for key in state if key.endswith(ending))
                }
            )

    def _forget_after_the_end(self, run: Run, step: int) -> None:
        """Free the scores after the last update, here and in checkpoints."""
        if step >= self.final_step(run.clock):
            self._scores, self._values = {}, {}

    def _add(self, run: Run, name: str, parameter: torch.nn.Parameter) -> None:
        gradient = parameter.grad
        if gradient is None or not gradient.isfinite().all():
            return  # frozen; or a step that overflowed and that the loss scaler skips
        moved = -self._unpruned(name, parameter).float() * gradient.float() / run.gradient_scale
        self._scores[name] = self._scores[name] + moved if name in self._scores else moved

    def _unpruned(self, name: str, parameter: torch.nn.Parameter) -> torch.Tensor:
        """The parameter with its pruned weights as they were."""
        import torch

        pruned, value = self._masks.pruned.get(name), self._values.get(name)
        if pruned is None or value is None:
            return parameter.detach().clone()
        return torch.where(pruned.to(parameter.device), value, parameter.detach())
