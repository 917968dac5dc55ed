"""The text of a new recipe: variables with their reasons, then the modifiers that use them."""

from __future__ import annotations

import textwrap
from typing import Any, Final

from sparseml.new_recipe.methods import Method
from sparseml.new_recipe.plan import Content, Variable, bundled

SOME_TEACHER: Final = "TEACHER"
"""In the command that trains: where the user has yet to name one."""

_WIDTH = 110


def text(content: Content) -> str:
    """A recipe in YAML; `load_plan` reads it."""
    parts = [_head(content), "version: 1.1.0", *map(_variable, content.variables), _training(content)]
    if content.method is not None:
        parts.append(_pruning(content, content.method))
    if content.wishes.int8:
        parts.append(_quantization(content))
    if content.wishes.teacher:
        parts.append(_distillation())
    decay = _modifier("SetWeightDecayModifier", {"start_epoch": 0.0, "weight_decay": "eval(weight_decay)"})
    parts.append(f"regularization_modifiers:\n{decay}")
    return "\n\n".join(parts) + "\n"


def train_words(content: Content, recipe: str, train_file: str | None, teacher: str | None) -> list[str]:
    """The command that trains by the recipe."""
    words = ["sparseml", "train", "--train_file", train_file or "rows.csv", "--recipe", recipe]
    if content.wishes.start.called:
        words += ["--model_name_or_path", content.wishes.start.called]
    if content.wishes.teacher:
        words += ["--distill_teacher", teacher or SOME_TEACHER]
    return words


def _head(content: Content) -> str:
    wishes = content.wishes
    start = wishes.start
    texts = "two texts" if wishes.pairs else "one text"
    kind = "a score" if wishes.classes == 1 else f"{wishes.classes} classes"
    known = f"{start.architecture}, {start.sparsity:.0%} zeros" if start.architecture else "pruned"
    lines = [
        f"From {start.shown} ({known}), for {wishes.rows:,} rows of {texts} and {kind}, "
        f"in batches of {content.batch}.",
        "Variables may be replaced when training: --recipe_args num_epochs=12",
    ]
    return "\n".join(comment for line in lines for comment in _comment(line))


def _variable(variable: Variable) -> str:
    return "\n".join([*_comment(variable.why), f"{variable.name}: {_value(variable.value)}"])


def _training(content: Content) -> str:
    epochs = _modifier("EpochRangeModifier", {"start_epoch": 0.0, "end_epoch": "eval(num_epochs)"})
    whole = {"start_epoch": 0.0, "end_epoch": "eval(num_epochs)", "init_lr": "eval(init_lr)"}
    rates = [{"lr_func": "linear", **whole, "final_lr": "eval(final_lr)"}]
    if content.method is not None and content.method.kind == "gradual":
        pruned = {"start_epoch": 0.0, "end_epoch": "eval(pruning_end_epoch)"}
        cycles = {"lr_func": "cyclic_linear", "cycle_epochs": "eval(pruning_interval)"}
        rates = [
            {**cycles, **pruned, "init_lr": "eval(init_lr)", "final_lr": "eval(lowest_lr)"},
            {**rates[0], "start_epoch": "eval(pruning_end_epoch)"},
        ]
    return "training_modifiers:\n" + "\n\n".join(
        [epochs, *(_modifier("LearningRateFunctionModifier", rate) for rate in rates)]
    )


def _pruning(content: Content, method: Method) -> str:
    start = content.wishes.start
    if method.kind == "keep":
        group, fields = "constant_modifiers", {"start_epoch": 0.0, "params": "__ALL_PRUNABLE__"}
        return f"{group}:\n{_modifier(method.tag, fields, method.why)}"
    fields = {"params": list(start.prunable), "mask_type": content.wishes.mask_shape}
    if method.kind == "one_shot":
        fields |= {"start_epoch": "eval(pruning_epoch)", "final_sparsity": "eval(final_sparsity)"}
    else:
        fields |= {
            "start_epoch": "eval(pruning_start_epoch)",
            "end_epoch": "eval(pruning_end_epoch)",
            "update_frequency": "eval(pruning_interval)",
            # From the zeros that there are; of a dense model that is 0.
            "init_sparsity": "__FROM_PARAM__" if start.sparse else 0.0,
            "final_sparsity": "eval(final_sparsity)",
        }
    whys = {"init_sparsity": "as the start is"}
    for name, value, why in method.fields:
        fields[name], whys[name] = value, why
    return f"pruning_modifiers:\n{_modifier(method.tag, fields, method.why, whys)}"


def _quantization(content: Content) -> str:
    (known,) = [spec for spec in bundled().modifiers if spec.tag == "QuantizationModifier"]
    own: dict[str, Any] = {
        "start_epoch": "eval(qat_start_epoch)",
        "disable_quantization_observer_epoch": "eval(observer_epoch)",
        "freeze_bn_stats_epoch": "eval(observer_epoch)",
        "quantize_embeddings": "eval(quantize_embeddings)",
        "submodules": list(content.wishes.start.submodules),
    }
    fields = {name: own.get(name, value) for name, value in known.fields.items()}
    whys = {
        "quantize_linear_activations": "0: the inputs of layers are int8, their outputs need no second rounding"
    }
    return f"quantization_modifiers:\n{_modifier(known.tag, fields, whys=whys)}"


_DISTILLATION: Final = {
    "DistillationModifier": {
        "hardness": "eval(distill_hardness)",
        "temperature": "eval(distill_temperature)",
    },
    "PerLayerDistillationModifier": {"gain": "eval(hidden_states_gain)"},
}


def _distillation() -> str:
    known = [spec for spec in bundled().modifiers if spec.tag in _DISTILLATION]
    items = [_modifier(spec.tag, spec.fields | _DISTILLATION[spec.tag]) for spec in known]
    return "distillation_modifiers:\n" + "\n\n".join(items)


def _modifier(
    tag: str, fields: dict[str, Any], why: str | None = None, whys: dict[str, str] | None = None
) -> str:
    """A modifier as an item of a list; comments above what they explain."""
    lines = [f"  {line}" for line in _comment(why)] if why else []
    lines.append(f"  - !{tag}")
    for name, value in fields.items():
        lines += [f"      {line}" for line in _comment((whys or {}).get(name, ""))]
        lines += _field(name, value)
    return "\n".join(lines)


def _field(name: str, value: Any) -> list[str]:
    if isinstance(value, list) and len(str(value)) > 80:
        return [f"      {name}:", *(f"        - {_value(item)}" for item in value)]
    return [f"      {name}: {_value(value)}"]


def _value(value: Any) -> str:
    """A value in YAML; text is quoted where YAML would read something else."""
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, float):
        return f"{value:.1e}".replace("e-0", "e-") if 0 < value < 1e-3 else repr(value)
    if isinstance(value, str) and (value.startswith("re:") or ":" in value):
        return "'" + value.replace("'", "''") + "'"
    return str(value)


def _comment(why: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(why, _WIDTH - 2)]
