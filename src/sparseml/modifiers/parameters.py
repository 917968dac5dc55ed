"""Freezing parameters, and setting them to a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field, PrivateAttr

from sparseml.modifiers.base import Modifier, ModifierError, Run
from sparseml.modifiers.select import Selector, select_parameters

if TYPE_CHECKING:
    import torch

    from sparseml.modifiers.resized import Resized


class TrainableParamsModifier(Modifier):
    """Freezes parameters, or lets them learn, for its span; afterwards they are as before."""

    label = "trainable"
    one_shot = True

    params: Selector = Field(description="which parameters: names, re: patterns, __ALL__, __ALL_PRUNABLE__")
    trainable: bool = Field(description="whether they learn")
    params_strict: bool = Field(True, description="whether a selector that matches nothing is an error")

    _before: dict[str, bool] = PrivateAttr(default_factory=dict)

    def on_start(self, run: Run) -> None:
        chosen = select_parameters(run.model, self.params, self.name, self.params_strict)
        for name, parameter in chosen.items():
            self._before.setdefault(name, parameter.requires_grad)
            parameter.requires_grad_(self.trainable)
            if not self.trainable:
                parameter.grad = None

    def on_end(self, run: Run) -> None:
        parameters = dict(run.model.named_parameters())
        for name, before in self._before.items():
            parameters[name].requires_grad_(before)
        self._before = {}

    def follow(self, run: Run, resized: Resized) -> None:
        self._before = resized.renamed(self._before)


class SetParamModifier(Modifier):
    """Sets parameters to a value once, when its span begins."""

    one_shot = True

    params: Selector = Field(description="which parameters: names, re: patterns, __ALL__, __ALL_PRUNABLE__")
    val: Any = Field(description="a number, or nested lists of the parameter's shape")
    params_strict: bool = Field(True, description="whether a selector that matches nothing is an error")

    _done: bool = PrivateAttr(False)  # also by the run that this one resumes

    def on_start(self, run: Run) -> None:
        import torch

        if self._done:
            return
        chosen = select_parameters(run.model, self.params, self.name, self.params_strict)
        for name, parameter in chosen.items():
            try:
                value = torch.as_tensor(self.val, dtype=parameter.dtype, device=parameter.device)
            except (TypeError, ValueError, RuntimeError) as error:
                raise ModifierError(
                    f"{self.name}: val is not a number or nested lists of numbers: {error}"
                ) from None
            if value.ndim and value.shape != parameter.shape:
                raise ModifierError(
                    f"{self.name}: val has shape {list(value.shape)}, but {name} has {list(parameter.shape)}."
                )
            with torch.no_grad():
                parameter.copy_(value.expand_as(parameter))
        self._done = True

    def state(self, run: Run) -> dict[str, torch.Tensor]:
        import torch

        return {"done": torch.tensor(self._done)}

    def load_state(self, state: Mapping[str, torch.Tensor], run: Run) -> None:
        self._done = bool(state["done"])
