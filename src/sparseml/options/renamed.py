"""Arguments that Transformers has renamed or removed since 4.23, and what replaces each.

From a comparison of the fields of TrainingArguments in 4.23, 4.30, 4.37, 4.40, 4.46, 4.57, 5.0 and 5.23. An argument
that still has a meaning is translated; one without is accepted, and a line says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from sparseml.options.table import BARE, ArgumentError, Option

Values = dict[str, Any]
# The old argument's typed value and all values by name, to the new arguments' values.
Converter = Callable[[Any, Values], Values]

RENAMED: Final[Mapping[str, str]] = {
    # The tutorial's text says `--task`, which argparse accepted as an abbreviation of `--task_name`.
    "task": "task_name",
    "use_auth_token": "token",
    "evaluation_strategy": "eval_strategy",
    "no_cuda": "use_cpu",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
    "gradient_checkpointing": "activation_checkpointing",
    "gradient_checkpointing_kwargs": "activation_checkpointing_kwargs",
    "push_to_hub_model_id": "hub_model_id",
    "push_to_hub_token": "hub_token",
    "torchdynamo": "torch_compile_backend",
    "xpu_backend": "ddp_backend",
}

_APEX = "Apex is gone from Transformers; mixed precision is PyTorch's own"
GONE: Final[Mapping[str, str]] = {
    "fp16_backend": _APEX,
    "fp16_opt_level": _APEX,
    "half_precision_backend": _APEX,
    "jit_mode_eval": "evaluation is no longer traced",
    "mp_parameters": "SageMaker's launcher no longer needs it",
    "past_index": "a classifier has no past state",
    "ray_scope": "there is no hyperparameter search here",
    "sharded_ddp": "FairScale is gone from Transformers; --fsdp is its successor",
    "tpu_num_cores": "the launcher sets the number of cores",
    "use_ipex": "Intel's extension is part of PyTorch now",
    "use_legacy_prediction_loop": "there is one prediction loop now",
    "use_mps_device": "an Apple GPU is used wherever there is one",
}

OLD_VALUES: Final[Mapping[str, Mapping[str, str]]] = {
    "optim": {"adamw_hf": "adamw_torch", "adamw_apex_fused": "adamw_torch_fused"}
}


def _group_by_length(value: Any, values: Values) -> Values:
    return {"train_sampling_strategy": "group_by_length" if value else "random"}


def _warmup_ratio(value: float, values: Values) -> Values:
    if not 0 <= value <= 1:
        raise ArgumentError(f"--warmup_ratio {value:g}: that is not between 0 and 1.")
    # A warmup_steps under 1 is a ratio; 1 would be one step, so all of the training is the number just below.
    return {"warmup_steps": min(value, math.nextafter(1.0, 0.0))} if value else {}


def _if_true(name: str, replacement: Any) -> Converter:
    """A switch that is now the value of another argument."""
    return lambda value, values: {name: replacement} if value else {}


def _organization(value: str, values: Values) -> Values:
    name = values.get("hub_model_id") or Path(str(values.get("output_dir", "model"))).name
    return {"hub_model_id": f"{value}/{str(name).rpartition('/')[2]}"}


def _inside(field: str, key: str) -> Converter:
    """A former argument that is now a key of a dictionary argument."""

    def convert(value: Any, values: Values) -> Values:
        known = Option(field, frozenset({dict})).convert(values.get(field))
        return {field: {**(known or {}), key: value}}

    return convert


CONVERTED: Final[Mapping[str, tuple[type, Converter]]] = {
    "adafactor": (bool, _if_true("optim", "adafactor")),
    "dispatch_batches": (bool, _inside("accelerator_config", "dispatch_batches")),
    "fsdp_min_num_params": (int, _inside("fsdp_config", "min_num_params")),
    "fsdp_transformer_layer_cls_to_wrap": (str, _inside("fsdp_config", "transformer_layer_cls_to_wrap")),
    "group_by_length": (bool, _group_by_length),
    "include_inputs_for_metrics": (bool, _if_true("include_for_metrics", ["inputs"])),
    "include_tokens_per_second": (bool, _if_true("include_num_input_tokens_seen", "all")),
    "push_to_hub_organization": (str, _organization),
    "save_safetensors": (bool, lambda value, values: {}),
    "split_batches": (bool, _inside("accelerator_config", "split_batches")),
    "tpu_metrics_debug": (bool, _if_true("debug", "tpu_metrics_debug")),
    "warmup_ratio": (float, _warmup_ratio),
}


def old_options(options: Mapping[str, Option]) -> dict[str, Option]:
    """Options for the old names that `options` replace, so that they are recognized when read."""
    table = {old: replace(options[new], name=old, old=True) for old, new in _renamed(options).items()}
    table |= {name: Option(name, frozenset({kind}), old=True) for name, (kind, _) in CONVERTED.items()}
    return table | {name: Option(name, frozenset({bool, str}), old=True) for name in GONE}


def translate(given: Mapping[str, Any], options: Mapping[str, Option]) -> tuple[Values, list[str]]:
    """Replace old names among raw values by current ones; returns notes. An ArgumentError for contradictions."""
    renamed = _renamed(options)
    values = {
        name: value
        for name, value in given.items()
        if name not in renamed.keys() | CONVERTED.keys() | GONE.keys()
    }
    notes: list[str] = []
    for old, value in given.items():
        if old in renamed:
            _merge(values, {renamed[old]: value}, old)
            notes.append(f"--{old} is now called --{renamed[old]}.")
    for old, value in given.items():
        if old in CONVERTED and value is not None:
            kind, convert = CONVERTED[old]
            typed = Option(old, frozenset({kind})).convert(value)
            converted = convert(typed, values)
            _merge(values, converted, old)
            notes.extend(_converted_note(old, typed, converted))
        elif old in GONE and old not in renamed:
            notes.append(f"--{old} has no effect: {GONE[old]}.")
    for name, replacements in OLD_VALUES.items():
        value = values.get(name)
        if isinstance(value, str) and value in replacements:
            notes.append(f"--{name} {value} is now called {replacements[value]}.")
            values[name] = replacements[value]
    return values, notes


def _renamed(options: Collection[str]) -> dict[str, str]:
    """The renames of the installed Transformers: a name counts as old once the new one exists."""
    return {old: new for old, new in RENAMED.items() if new in options}


def _merge(values: Values, converted: Values, old: str) -> None:
    for name, value in converted.items():
        known = values.get(name)
        if known is not None and known != value and not isinstance(value, dict) and name != "hub_model_id":
            raise ArgumentError(
                f"--{old} and --{name} contradict each other ({_text(value)}, {_text(known)}): "
                f"--{old} is the old way to say --{name}. Leave one out."
            )
        values[name] = value


def _converted_note(old: str, typed: Any, converted: Values) -> list[str]:
    if converted:
        return [f"--{old} is now said with --{name} {_text(value)}." for name, value in converted.items()]
    if old == "save_safetensors" and not typed:
        return [
            "--save_safetensors false has no effect: models are always saved as safetensors, never as pickle."
        ]
    return []


def _text(value: Any) -> str:
    return "true" if value is BARE else str(value)
