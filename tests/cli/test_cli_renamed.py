"""Arguments of older Transformers are understood or accepted, and said."""

from __future__ import annotations

from typing import Any

import pytest

from sparseml.options import renamed
from sparseml.options.table import ArgumentError
from sparseml.training.arguments import Arguments
from support.arguments import all_options, parse

BASE = ["--task_name", "sst2", "--do_train", "--output_dir", "out"]

# The fields of TrainingArguments in Transformers 4.23, 4.30, 4.37, 4.40, 4.46, 4.57 or 5.0.
ONCE_KNOWN = """
accelerator_config adafactor adam_beta1 adam_beta2 adam_epsilon auto_find_batch_size
average_tokens_across_devices batch_eval_metrics bf16 bf16_full_eval data_seed dataloader_drop_last
dataloader_num_workers dataloader_persistent_workers dataloader_pin_memory dataloader_prefetch_factor
ddp_backend ddp_broadcast_buffers ddp_bucket_cap_mb ddp_find_unused_parameters ddp_timeout debug
deepspeed disable_tqdm dispatch_batches do_eval do_predict do_train enable_jit_checkpoint
eval_accumulation_steps eval_delay eval_do_concat_batches eval_on_start eval_steps eval_strategy
eval_use_gather_object evaluation_strategy fp16 fp16_backend fp16_full_eval fp16_opt_level fsdp
fsdp_config fsdp_min_num_params fsdp_transformer_layer_cls_to_wrap full_determinism
gradient_accumulation_steps gradient_checkpointing gradient_checkpointing_kwargs greater_is_better
group_by_length half_precision_backend hub_always_push hub_model_id hub_private_repo hub_revision
hub_strategy hub_token ignore_data_skip include_for_metrics include_inputs_for_metrics
include_num_input_tokens_seen include_tokens_per_second jit_mode_eval label_names label_smoothing_factor
learning_rate length_column_name liger_kernel_config load_best_model_at_end local_rank log_level
log_level_replica log_on_each_node logging_dir logging_first_step logging_nan_inf_filter logging_steps
logging_strategy lr_scheduler_kwargs lr_scheduler_type max_grad_norm max_steps metric_for_best_model
mp_parameters neftune_noise_alpha no_cuda num_train_epochs optim optim_args optim_target_modules
output_dir overwrite_output_dir parallelism_config past_index per_device_eval_batch_size
per_device_train_batch_size per_gpu_eval_batch_size per_gpu_train_batch_size prediction_loss_only
project push_to_hub push_to_hub_model_id push_to_hub_organization push_to_hub_token ray_scope
remove_unused_columns report_to restore_callback_states_from_checkpoint resume_from_checkpoint run_name
save_on_each_node save_only_model save_safetensors save_steps save_strategy save_total_limit seed
sharded_ddp skip_memory_metrics split_batches tf32 torch_compile torch_compile_backend
torch_compile_mode torch_empty_cache_steps torchdynamo tpu_metrics_debug tpu_num_cores trackio_space_id
train_sampling_strategy use_cache use_cpu use_ipex use_legacy_prediction_loop use_liger_kernel
use_mps_device warmup_ratio warmup_steps weight_decay xpu_backend
""".split()  # noqa: SIM905

TRANSLATED: dict[str, tuple[list[str], str, Any]] = {
    "task": (["sst2"], "task_name", "sst2"),
    "use_auth_token": ([], "token", True),
    "evaluation_strategy": (["epoch"], "eval_strategy", "epoch"),
    "no_cuda": ([], "use_cpu", True),
    "per_gpu_train_batch_size": (["3"], "per_device_train_batch_size", 3),
    "per_gpu_eval_batch_size": (["5"], "per_device_eval_batch_size", 5),
    "push_to_hub_model_id": (["name"], "hub_model_id", "name"),
    "push_to_hub_token": (["word"], "hub_token", "word"),
    "push_to_hub_organization": (["group"], "hub_model_id", "group/out"),
    "gradient_checkpointing": ([], "activation_checkpointing", True),
    "adafactor": ([], "optim", "adafactor"),
    "group_by_length": (["false"], "train_sampling_strategy", "random"),
    "include_inputs_for_metrics": (["true"], "include_for_metrics", ["inputs"]),
    "include_tokens_per_second": ([], "include_num_input_tokens_seen", "all"),
    "warmup_ratio": (["0.06"], "warmup_steps", 0.06),
    "optim": (["adamw_hf"], "optim", "adamw_torch"),
}


def value_of(arguments: Arguments, name: str) -> Any:
    """An argument's value, whichever group it is in."""
    for group in (arguments.model, arguments.data, arguments.training):
        if hasattr(group, name):
            return getattr(group, name)
    raise KeyError(name)


def test_everything_that_was_ever_a_field_is_known() -> None:
    options = all_options()
    assert set(ONCE_KNOWN) <= {*options, *renamed.old_options(options)}


@pytest.mark.parametrize("old", TRANSLATED)
def test_old_names_are_translated_and_said(old: str) -> None:
    words, new, expected = TRANSLATED[old]
    base = BASE[2:] if old == "task" else BASE
    arguments = parse([*base, f"--{old}", *words])
    assert value_of(arguments, new) == expected
    assert sum(note.startswith(f"--{old} ") for note in arguments.notes) == 1


@pytest.mark.parametrize("old", renamed.GONE)
def test_what_has_no_meaning_any_more_is_accepted_and_said(old: str) -> None:
    for words in ([], ["auto"]):
        arguments = parse([*BASE, f"--{old}", *words])
        assert any(note.startswith(f"--{old} has no effect") for note in arguments.notes)
        assert value_of(arguments, "seed") == 42


def test_notes_are_said_of_what_changes_nothing_only_when_it_matters() -> None:
    assert len(parse([*BASE, "--save_safetensors"]).notes) == len(parse(BASE).notes)
    assert any("pickle" in note for note in parse([*BASE, "--save_safetensors", "false"]).notes)


def test_keys_of_dictionaries() -> None:
    training = parse([*BASE, "--split_batches", "--dispatch_batches", "false"]).training
    assert training.accelerator_config.split_batches is True
    assert training.accelerator_config.dispatch_batches is False


def test_a_warmup_ratio_of_one_is_the_whole_training() -> None:
    assert parse([*BASE, "--warmup_ratio", "1.0"]).training.get_warmup_steps(12345) == 12345


@pytest.mark.parametrize(
    "words",
    [
        ["--evaluation_strategy", "epoch", "--eval_strategy", "steps"],
        ["--warmup_ratio", "0.1", "--warmup_steps", "10"],
        ["--no_cuda", "--use_cpu", "false"],
        ["--group_by_length", "--train_sampling_strategy", "random"],
    ],
)
def test_old_and_new_that_disagree_are_refused(words: list[str]) -> None:
    with pytest.raises(ArgumentError, match="contradict each other"):
        parse([*BASE, *words])


def test_old_and_new_that_agree_are_fine() -> None:
    words = ["--evaluation_strategy", "epoch", "--eval_strategy", "epoch"]
    assert parse([*BASE, *words]).training.eval_strategy == "epoch"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--warmup_ratio", "2"], "between 0 and 1"),
        (["--warmup_ratio", "x"], "a number"),
        (["--group_by_length", "perhaps"], "true or false"),
        (["--per_gpu_train_batch_size", "many"], "whole number"),
    ],
)
def test_old_names_check_their_values(words: list[str], part: str) -> None:
    with pytest.raises(ArgumentError, match=part):
        parse([*BASE, *words])
