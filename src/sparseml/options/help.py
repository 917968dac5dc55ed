"""The text of `--help`: the arguments in groups, the common ones first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Final

from sparseml.options.groups import ModelArguments
from sparseml.options.table import Option, section

_INTRO: Final = """\
usage: sparseml train --train_file rows.csv
       {program} --name value ...
       {program} arguments.json

{introduction}

Without --do_train, --do_eval and --do_predict, all is done (the model is trained, exported, checked,
timed and summed up) and whatever is not given is chosen: columns, validation rows, recipe, folder.

Instead of flags, one file of JSON or YAML may hold all arguments. A switch takes no value, or true or
false; --no_NAME turns it off.

for example:
  {program} --do_train --do_eval --output_dir emotion \\
    --train_file train.csv --validation_file validation.csv --recipe recipe.yaml"""

_RECIPE: Final = (
    *("recipe", "recipe_args", "distill_teacher", "best_model_after_epoch", "allow_dense_start"),
    *("early_stopping_patience", "early_stopping_threshold"),
)
_TRAINING: Final = (
    *("output_dir", "do_train", "do_eval", "do_predict", "overwrite_output_dir", "resume_from_checkpoint"),
    *("num_train_epochs", "max_steps", "learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay"),
    *("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"),
    *("train_sampling_strategy", "bf16", "fp16", "use_cpu", "seed", "eval_strategy", "eval_steps"),
    *("save_strategy", "save_steps", "save_total_limit", "load_best_model_at_end", "metric_for_best_model"),
    *("logging_steps", "report_to", "disable_tqdm"),
)


def text(
    program: str, introduction: str, arguments: type, options: Mapping[str, Option], everything: bool = False
) -> str:
    """The help of the training command `program`, whose data arguments are the dataclass `arguments`."""
    groups = {
        "model": [entry.name for entry in fields(ModelArguments)],
        "data": [entry.name for entry in fields(arguments)],
        "recipe and teacher": _RECIPE,
        "training": _TRAINING,
    }
    sections = [_INTRO.format(program=program, introduction=introduction)]
    sections += [section(title, names, options) for title, names in groups.items()]
    shown = {name for names in groups.values() for name in names}
    rest = [name for name in options if name not in shown]
    if everything:
        sections.append(section("more of Transformers' training arguments", rest, options))
    else:
        sections.append(f"--help-all lists {len(rest)} more of Transformers' training arguments.")
    return "\n\n".join(sections)
