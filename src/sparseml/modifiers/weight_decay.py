"""Weight decay."""

from __future__ import annotations

from pydantic import Field

from sparseml.modifiers.base import Clock, Modifier, ModifierError, Run, without_effect


class SetWeightDecayModifier(Modifier):
    """Sets the optimizer's weight decay from its start on.

    By default only where decay is meant: parameter groups of biases and norms keep theirs (0, as the
    Trainer makes them). `param_groups` names groups all the same.
    """

    weight_decay: float = Field(ge=0, description="the decay")
    param_groups: list[int] | None = Field(
        None,
        description="indices of the optimizer's parameter groups; by default those that decay is meant for",
    )
    constant_logging: bool = without_effect(False)

    def on_start(self, run: Run) -> None:
        assert run.optimizer is not None
        groups = run.optimizer.param_groups
        if self.param_groups is None:
            chosen = [group for group in groups if any(id(p) in run.decayed for p in group["params"])]
        else:
            beyond = [index for index in self.param_groups if not 0 <= index < len(groups)]
            if beyond:
                raise ModifierError(
                    f"{self.name}: param_groups names group {beyond[0]}, but the optimizer has "
                    f"{len(groups)} groups (0 to {len(groups) - 1})."
                )
            chosen = [groups[index] for index in self.param_groups]
        for group in chosen:
            group["weight_decay"] = self.weight_decay

    def events(self, clock: Clock) -> list[tuple[float, str]]:
        return [(self.first_step(clock), f"weight decay {self.weight_decay:g}")]
