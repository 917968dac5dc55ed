"""The commands `sparseml.transformers.export_onnx` and `sparseml export`: arguments in, calls out."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from resparse.confidence import MIN_SCORE, OUT_OF_SCOPE, is_min_score
from resparse.console import output, say
from resparse.console import run as run_command
from resparse.errors import UserError, did_you_mean
from resparse.files import refuse_unwritable
from resparse.long_texts import WINDOWS
from sparseml import tasks
from sparseml.missing import needs
from sparseml.options.table import ArgumentError, Option, options_of, requests_help, scan, section
from sparseml.session.sources import local_folder
from sparsezoo import is_stub

if TYPE_CHECKING:
    from sparseml.tasks.base import Task, Texts
    from sparsezoo.hub_repo import HubRepo

PROGRAM: Final = "sparseml.transformers.export_onnx"

_RUNTIMES: Final = ("portable", "onnxruntime", "openvino", "deepsparse")
_INTRO: Final = """\
usage: sparseml export DIR [--name value ...]
       sparseml.transformers.export_onnx --task text_classification --model_path DIR [--name value ...]

Writes a deployment folder for a trained text classifier: model.onnx, its configuration, tokenizer, recipe and
report. PyTorch and ONNX Runtime answer the same rows first; an export that answers otherwise is not written."""

# Arguments of `sparseml.export`, and the equivalents here.
_ALIASES: Final = {"source_path": "model_path", "onnx_model_name": "onnx_file_name", "recipe": "one_shot"}
_WITHOUT_EFFECT: Final = {
    "trust_remote_code": "no code comes with a model here",
    "validate_correctness": "every export is compared with PyTorch",
    "validate_structure": "every export is checked",
    "integration": "text classifiers are Transformers models",
    "graph_optimizations": "the runtime decides the form; see --runtime",
    "device": "exports are traced on the CPU",
    "config_args": "the configuration is the checkpoint's",
    "external_data_chunk_size_mb": "external data is one file",
    "sample_data": "sample inputs are rows of the data",
}


def _arg(help: str, default: Any = None, **metadata: Any) -> Any:
    return field(default=default, metadata={"help": help, **metadata})


@dataclass(frozen=True)
class ExportArguments:
    """The arguments of an export."""

    model_path: str | None = _arg("the finished training's folder (its --output_dir), or a zoo: stub")
    task: str | None = _arg(f"what the model does: {', '.join(tasks.names(deployed=True))}")
    target_path: str | None = _arg("folder in which the deployment folder is made; default: beside DIR")
    deployment_directory_name: str = _arg("name of the deployment folder", "deployment")
    runtime: str | None = _arg(
        "the runtime to write for: portable serves ONNX Runtime and OpenVINO; deepsparse is for the original "
        "DeepSparse 1.8 [portable]",
        choices=_RUNTIMES,
    )
    sequence_length: int | None = _arg("tokens that texts are cut at; default: what the model takes")
    opset: int | None = _arg("ONNX operator set, 13 to 22; default: 18, or 14 for deepsparse")
    onnx_file_name: str = _arg("name of the model in the folder", "model.onnx")
    data_args: str | None = _arg(
        "rows to check the export on, in place of the training's own: JSON or name=value,... of dataset_name, "
        "validation_file, input_column_names, ..."
    )
    one_shot: str | None = _arg("a recipe to apply once before the export: a file or a zoo: stub")
    num_export_samples: int = _arg("how many rows and answers to keep as NumPy files", 0)
    save_with_external_data: bool = _arg("keep weights in a file of their own (always so above 2 GB)", False)
    min_score: float | None = _arg(
        "deploy it so that texts whose best label has a lower probability get none; 0: all get one"
    )
    out_of_scope_label: str | None = _arg("the label of such texts: another name, or one of the classes")
    push_to_hub: bool = _arg("push the deployment to the Hub, where hf:OWNER/NAME loads it", False)
    hub_model_id: str | None = _arg(
        "OWNER/NAME of its repository; default: the model folder's name, your own"
    )
    hub_private_repo: bool = _arg("make the repository private, if there is none yet", False)
    finetuning_task: str | None = _arg("the GLUE task that the model was trained for, where not known")
    no_convert_qat: bool = _arg("keep QuantizeLinear and DequantizeLinear: the portable form has them", False)
    deployment_target: str | None = _arg(
        "of sparseml.export: deepsparse, or onnx for the portable form", choices=("deepsparse", "onnx")
    )
    trust_remote_code: bool = _arg("accepted, without effect", False)
    validate_correctness: bool = _arg("accepted: every export is compared with PyTorch", False)
    validate_structure: bool = _arg("accepted: every export is checked", False)
    integration: str | None = _arg("accepted, without effect")
    graph_optimizations: str | None = _arg("accepted, without effect")
    device: str | None = _arg("accepted, without effect")
    config_args: str | None = _arg("accepted, without effect")
    external_data_chunk_size_mb: int | None = _arg("accepted, without effect")
    sample_data: str | None = _arg("accepted, without effect")


def cli() -> int:
    """The console command; exit code 2 after a mistake of the user's."""

    def work() -> None:
        with needs("An export"):
            main()

    return run_command(work)


def main(argv: Sequence[str] | None = None, **kwargs: Any) -> dict[str, Any]:
    """Export as the flags or keywords say; a first word that is no flag is the model's folder. Returns the report."""
    words = list(argv) if argv is not None else [] if kwargs else sys.argv[1:]
    for name, value in kwargs.items():
        if value is not None:
            words += [f"--{name}", json.dumps(value) if isinstance(value, dict) else str(value)]
    options = options_of(ExportArguments)
    if requests_help(words):
        print(f"{_INTRO}\n\n{section('arguments', options, options)}")
        raise SystemExit(0)
    arguments, notes = parse(words, options)
    for note in notes:
        say(note)
    return run(arguments, words)


def parse(words: Sequence[str], options: dict[str, Option]) -> tuple[ExportArguments, list[str]]:
    """Checked arguments from flags, and lines to print about them."""
    flags = ["--model_path", *words] if words and not words[0].startswith("-") else list(words)
    known = {**options, **{old: options[name] for old, name in _ALIASES.items()}}
    raw, notes = scan(flags, known)
    values = {_ALIASES.get(name, name): known[name].convert(value) for name, value in raw.items()}
    notes += [f"--{name} has no effect: {why}." for name, why in _WITHOUT_EFFECT.items() if values.get(name)]
    arguments = ExportArguments(**values)
    _check(arguments)
    return arguments, notes


def run(arguments: ExportArguments, words: Sequence[str]) -> dict[str, Any]:
    """Run an export, and print its folder and what was verified."""
    from sparseml.export.deployment import ExportRequest, export
    from sparseml.session.models import resolve

    assert arguments.model_path is not None
    given = Path(arguments.model_path).expanduser()
    # A stub or Hub id is fetched, and exported to the current folder.
    named = "/" in arguments.model_path or is_stub(arguments.model_path)
    folder = resolve(arguments.model_path).folder if named else given
    beside = given.resolve().parent if given.is_dir() else Path.cwd()
    target = Path(arguments.target_path).expanduser() if arguments.target_path else beside
    refuse_unwritable(target)
    task = _task(arguments, folder)
    repo = _repository(arguments, folder)
    rows, called = _rows(arguments, task, folder)
    report = export(
        ExportRequest(
            source=folder,
            folder=target / arguments.deployment_directory_name,
            task=task,
            runtime=_runtime(arguments),
            opset=arguments.opset,
            file_name=arguments.onnx_file_name,
            sequence_length=arguments.sequence_length,
            rows=rows,
            rows_called=called,
            samples=arguments.num_export_samples,
            external_data=arguments.save_with_external_data,
            recipe=arguments.one_shot,
            decide=_decide(arguments),
            command=[PROGRAM, *words],
        )
    )
    _print_report(report, target / arguments.deployment_directory_name)
    if repo is not None:
        from deepsparse.deployment import open_deployment
        from deepsparse.push import push

        say(f"pushed: {push(open_deployment(target / arguments.deployment_directory_name), repo)}")
    return report


def _repository(arguments: ExportArguments, folder: Path) -> HubRepo | None:
    """The repository to push to, created before the export, so that a refusal comes before its work."""
    if not arguments.push_to_hub:
        return None
    from sparsezoo.hub_upload import create

    called = arguments.hub_model_id or folder.resolve().name
    return create(called, None, arguments.hub_private_repo or None)


def _check(arguments: ExportArguments) -> None:
    if arguments.model_path is None:
        raise ArgumentError("--model_path is missing: the folder of a finished training.")
    if arguments.task is not None:
        tasks.own_name(arguments.task)
    if arguments.opset is not None and not 13 <= arguments.opset <= 22:
        raise ArgumentError(f"--opset {arguments.opset}: operator sets 13 to 22 can be written.")
    if arguments.min_score is not None and not is_min_score(arguments.min_score):
        raise ArgumentError(f"--min_score {arguments.min_score:g}: it is a probability, from 0 to below 1.")
    name = arguments.onnx_file_name
    if name != Path(name).name or not name.endswith(".onnx"):
        raise ArgumentError(f"--onnx_file_name {name!r} must be a file's name that ends in .onnx.")
    if arguments.push_to_hub and name != "model.onnx":
        raise ArgumentError(
            "--push_to_hub: on the Hub a model is found by the name model.onnx; see --onnx_file_name."
        )
    if arguments.hub_model_id and not arguments.push_to_hub:
        raise ArgumentError("--hub_model_id names the repository for --push_to_hub, which is not given.")
    if arguments.num_export_samples < 0:
        raise ArgumentError(f"--num_export_samples {arguments.num_export_samples} is below 0.")
    if _runtime(arguments) == "deepsparse" and arguments.no_convert_qat:
        raise ArgumentError(
            "--no_convert_qat keeps QuantizeLinear and DequantizeLinear, which the form for DeepSparse has converted: "
            "leave out one of the two."
        )
    if _runtime(arguments) == "deepsparse" and (arguments.opset or 0) > 14:
        raise ArgumentError(f"--opset {arguments.opset}: DeepSparse 1.8 runs operator sets up to 14 well.")
    model = arguments.model_path
    if not (is_stub(model) or local_folder(model) or "/" in model):
        raise ArgumentError(f"--model_path {model!r} is not a folder: give the output_dir of a training.")


def _decide(arguments: ExportArguments) -> dict[str, Any]:
    """What the arguments say of when the deployed model gives no label."""
    asked = {MIN_SCORE: arguments.min_score, OUT_OF_SCOPE: arguments.out_of_scope_label}
    return {name: value for name, value in asked.items() if value is not None}


def _runtime(arguments: ExportArguments) -> str:
    if arguments.runtime is not None:
        return arguments.runtime
    return "deepsparse" if arguments.deployment_target == "deepsparse" else "portable"


def _task(arguments: ExportArguments, folder: Path) -> Task:
    """The named task, or that of the model's configuration, which the export itself checks."""
    from sparseml.session.models import load_config, resolve

    if arguments.task is not None or not (folder / "config.json").is_file():
        return tasks.load_task(arguments.task or tasks.DEFAULT)
    try:
        return tasks.task_of(load_config(resolve(str(folder))))
    except UserError:
        return tasks.load_task()


def _rows(arguments: ExportArguments, task: Task, folder: Path) -> tuple[list[Texts], str]:
    """Rows of the user's: those of --data_args, else those that the training was validated on."""
    if arguments.data_args is not None:
        given = _parse_data_args(arguments.data_args)
        return _load_rows({"task_name": arguments.finetuning_task, **given}, task, folder)
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        given = _data_arguments(report["command"], task)
    except (OSError, ValueError, KeyError, TypeError, ArgumentError):
        return [], ""
    # Only local files: an export does not download the training's data again.
    if not all(Path(path).is_file() for key, path in given.items() if key.endswith("_file")):
        return [], ""
    return _load_rows(given, task, folder) if given.get("validation_file") else ([], "")


def _own_arguments(task: Task) -> set[str]:
    """The data arguments that other tasks do not have."""
    from sparseml.options.groups import DataTrainingArguments

    return {entry.name for entry in fields(task.arguments)} - {
        entry.name for entry in fields(DataTrainingArguments)
    }


def _data_arguments(command: Sequence[str], task: Task) -> dict[str, Any]:
    """The data arguments of a training's command; of its files the validation file, or else any other."""
    own = {name for name in _own_arguments(task) if name.endswith("_column_name")}
    names = ("task_name", "input_column_names", "label_column_name", *sorted(own))
    kinds = ("validation_file", "test_file", "train_file")
    known = {name: Option(name, frozenset({str, bool}), many=True) for name in (*names, *kinds)}
    flags: list[str] = []
    keep = False
    for word in command[1:]:
        if word.startswith("--"):
            keep = word[2:].partition("=")[0].replace("-", "_") in known
        if keep:
            flags.append(word)
    values, _ = scan(flags, known)
    file = next((values[kind] for kind in kinds if isinstance(values.get(kind), str)), None)
    return {
        **{name: values[name] for name in names if isinstance(values.get(name), str)},
        **({"validation_file": file} if file is not None else {}),
    }


def _load_rows(given: dict[str, Any], task: Task, folder: Path) -> tuple[list[Texts], str]:
    from sparseml.data import DataOptions
    from sparseml.session.models import load_config, resolve, text_columns

    allowed = {entry.name for entry in fields(DataOptions) if not entry.name.startswith(("needs", "known"))}
    own = _own_arguments(task)
    unknown = sorted(set(given) - allowed - own)
    if unknown:
        raise ArgumentError(
            f"--data_args: no such argument: {unknown[0]!r}. {did_you_mean(unknown[0], allowed)}"
        )
    config = load_config(resolve(str(folder)))
    chosen = {name: value for name, value in given.items() if name in allowed}
    options = DataOptions(
        **chosen,
        needs_train=False,
        needs_eval=True,
        known_labels=task.labels_of(config),
        known_columns=text_columns(config),
    )
    data = task.load_data(options, task.arguments(**{name: given[name] for name in own & set(given)}))
    assert data.validation is not None
    called = Path(given["validation_file"]).name if given.get("validation_file") else data.name
    return task.texts(data, data.validation), called


def _parse_data_args(text: str) -> dict[str, Any]:
    """`--data_args`: a JSON object, or name=value,name=value."""
    try:
        values = json.loads(text)
    except ValueError:
        pieces = [piece.partition("=") for piece in text.split(",")]
        values = {name.strip(): value.strip() for name, equals, value in pieces if equals}
        if len(values) != len(pieces):
            values = None
    if not isinstance(values, dict):
        raise ArgumentError(f"--data_args {text!r} is neither a JSON object nor name=value,name=value.")
    return values


def _print_report(report: dict[str, Any], folder: Path) -> None:
    from resparse.console import aligned
    from sparseml.data.rows import labels_text

    facts = report["export"]
    checked, layers, size = facts["verification"], facts["layers"], facts["size"]
    linears = layers["int8_linears"] + layers["float_linears"]
    tables = layers["int8_embeddings"] + layers["float_embeddings"]
    of = labels_text(checked["labels"], checked["rows"])
    share = f"{checked['label_agreement']:.2%} of {of} ({checked['on']})"
    own = checked.get("pytorch_with_other_rounding")
    itself = "PyTorch as itself, rounded otherwise"
    int8 = f"{layers['int8_linears']} of {linears} Linear, {layers['int8_embeddings']} of {tables} Embedding"
    rows = [
        ("form", f"{facts['form']}, operator set {facts['opset']}"),
        ("same labels as PyTorch", share),
        *([(itself, f"{own['label_agreement']:.2%}")] if own is not None else []),
        ("largest logit difference", f"{checked['largest_logit_difference']:.4f}"),
        *([(f"longer than {checked['window']} tokens", _longer(checked))] if checked["longer"] else []),
        ("int8 layers", int8),
        ("pruned weights, all at the zero point", f"{layers['pruned_weights_at_zero_point']:,}"),
        ("size, dense float32", f"{size['dense_bytes'] / 1e6:.1f} MB"),
        ("size, stored", f"{size['stored_bytes'] / 1e6:.1f} MB"),
        ("size, compressed", f"{size['compressed_bytes'] / 1e6:.1f} MB ({size['compressed_share']:.1%})"),
    ]
    output.print(aligned(rows, ("export", "")))
    say(f"deployment: {folder}")


def _longer(checked: dict[str, Any]) -> str:
    read = "read in windows" if checked["read"] == WINDOWS else "cut there"
    return f"{checked['longer']:,} of {checked['rows']:,} rows: {read}"


if __name__ == "__main__":
    raise SystemExit(cli())
