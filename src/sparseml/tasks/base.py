"""What a task is: on one page, all that differs between training, evaluating and exporting for one task or another.

A training asks its task in this order (`sparseml/training`):

    data = task.load_data(options, arguments)            # rows by split, columns, labels
    model = task.model_class.from_pretrained(...)        # with task.config_values(data, labels) in its configuration
    task.initialize_head(model, new, data, labels)       # guided runs; at their end, `assess` and `summarize`
    rows = task.encode(split, data, tokenizer, ...)      # rows to token ids
    batch = task.collate(tokenizer, labels)(rows)        # rows to a batch of tensors
    task.distance(student, teacher, temperature, ...)    # the distillation loss, while a modifier distils
    task.loss(data, labels, arguments)                   # where it is not the model's own
    task.metrics(data, labels, rows)(evaluation)         # after each evaluation
    task.calibrate(outputs, truth, labels, arguments)    # after the training, on the validation rows
    task.evaluation(outputs, truth, labels, data, rows)  # of the last one, for report.json
    task.write_evaluation(folder, outputs, data, rows)   # and for the user
    task.write_predictions(stem, outputs, data, labels, rows)  # --do_predict
    task.pipeline_tag(...), task.usage(...)              # the model card

An export (`sparseml/export`):

    texts = task.texts(data, split)                      # to compare PyTorch and ONNX Runtime on
    graph with the outputs task.output_names
    task.decisions(outputs, mask)                        # of both, compared decision by decision
    task.deployment_config(config)                       # config.json of the deployment folder
    task.evaluate_deployment(pipeline, options)          # deepsparse.transformers.eval_downstream

To add a task: a file with a subclass, and a line in `tasks/__init__.py`; its other half, from the exported model's
outputs to answers, is a file in `deepsparse/tasks`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from resparse.arrays import Array
from sparseml.data import DataOptions, Labels, TextData
from sparseml.data.readers import READERS
from sparseml.guided.sizing import RECIPE
from sparseml.modifiers.base import Batch, Outputs

if TYPE_CHECKING:
    from torch import Tensor, nn

    from deepsparse.pipeline import Pipeline
    from sparseml.calibrate import Fitted
    from sparseml.session.trainer import RecipeTrainer

Texts = tuple[str, ...]
"""One or two texts, as a tokenizer takes them."""


class Task(ABC):
    """See the module's docstring. Instances hold no state."""

    name: ClassVar[str]
    """In commands, and in the deployment's config.json."""

    output_names: ClassVar[tuple[str, ...]] = ("logits",)
    """The model's outputs, in the order in which it returns them; the exported graph's too."""

    one_output_a_row: ClassVar[bool] = False
    """Whether `logits` are [rows, labels]: then a teacher's are computed once for all rows, not for every batch."""

    cuts_whole_batches: ClassVar[bool] = False
    """Whether its data come in whole batches (`whole_batches` of a dataset) of --per_device_train_batch_size."""

    guided: ClassVar[bool] = False
    """Whether a command that names no work is a guided run."""

    guided_recipe: ClassVar[str] = RECIPE
    """The recipe of a guided run."""

    guided_length: ClassVar[int] = 128
    """The most tokens of a row in a guided run; the default of the runtime and its server."""

    reads_windows: ClassVar[bool] = False
    """Whether long texts are read in windows, of a length that the deployment keeps."""

    product: ClassVar[str] = "classifier"
    """What a guided run makes, as its folder is called."""

    introduction: ClassVar[str]
    """The beginning of the training command's help."""

    file_endings: ClassVar[tuple[str, ...]] = tuple(READERS)
    """The formats of its data files."""

    holds_out: ClassVar[bool] = False
    """Whether it validates on a part of the training data where no validation data are named."""

    @property
    def command(self) -> str:
        """The name of its training command."""
        return f"sparseml.transformers.{self.name}"

    # Data and model.

    @property
    def arguments(self) -> type:
        """The dataclass of the command's data arguments: by default those of every task; a subclass adds its own."""
        from sparseml.options.groups import DataTrainingArguments

        return DataTrainingArguments

    @property
    @abstractmethod
    def model_class(self) -> Any:
        """Transformers' Auto class that loads its models."""

    @abstractmethod
    def load_data(self, options: DataOptions, arguments: Any) -> TextData:
        """Read, check and prepare the data.

        Args:
            options: what every task's data need.
            arguments: an instance of `arguments`, for what is the task's own.

        Raises:
            DataError: the data cannot be found, read, or used as asked.
        """

    @abstractmethod
    def labels_of(self, config: Any) -> Labels | None:
        """The labels of a trained model, by its configuration; None for a model without this task's head."""

    @abstractmethod
    def config_values(self, data: TextData, labels: Labels | None) -> dict[str, Any]:
        """Changes to the start's configuration, for a model that learns these labels."""

    def text_columns(self, data: TextData) -> tuple[str, ...]:
        """The columns of the training rows that a user's rows will have, in their order; () where there are none."""
        return data.columns.texts

    def has_no_loss(self, config: Any) -> bool:
        """Whether a model of this configuration has no loss of its own, so that a modifier must give it one."""
        return False

    def settle(self, data: Any, model: nn.Module, training: Any) -> None:  # noqa: B027  most have nothing to note
        """Note in the data, in place, what their encoding needs of the loaded model and the training's arguments."""

    # Training.

    @abstractmethod
    def encode(self, split: Any, data: TextData, tokenizer: Any, arguments: Any) -> Any:
        """Tokenize a split.

        Returns:
            A `datasets.Dataset` with the model's inputs, `labels` where there are any, and `length`: tokens
            without padding.
        """

    @abstractmethod
    def collate(
        self, tokenizer: Any, labels: Labels | None, multiple_of: int | None = None
    ) -> Callable[[Sequence[Mapping[str, Any]]], dict[str, Tensor]]:
        """A function from encoded rows to a padded batch.

        Args:
            multiple_of: pad to a multiple of this many tokens; 8 suits tensor cores.
        """

    @abstractmethod
    def distance(
        self, student: Outputs, teacher: Outputs, temperature: float, batch: Batch, config: Any
    ) -> Tensor:
        """The distillation loss between two models' outputs for a batch: a scalar."""

    def loss(
        self, data: TextData, labels: Labels | None, arguments: Any
    ) -> Callable[[Outputs, Tensor], Tensor] | None:
        """The loss to train by, of a batch's outputs and labels; None: the model's own.

        Args:
            arguments: an instance of `arguments`.
        """
        return None

    @abstractmethod
    def metrics(self, data: TextData, labels: Labels | None, rows: Any) -> Callable[[Any], dict[str, float]]:
        """A function from a `transformers.EvalPrediction` on encoded rows to metrics by name."""

    def evaluation(
        self, outputs: tuple[Array, ...], truth: Any, labels: Labels | None, data: Any, rows: Any
    ) -> dict[str, Any] | None:
        """What evaluated rows say beyond the metrics, for `report.json` and its page; None where a task has nothing.

        Args:
            outputs: the model's, in the order of `output_names`; first dimension: rows.
            truth: the rows' labels, as the collator gave them; a tuple where a row has several.
            data: what `load_data` gave.
            rows: encoded, in the order of the outputs.
        """
        return None

    def write_evaluation(self, folder: Path, outputs: tuple[Array, ...], data: Any, rows: Any) -> None:  # noqa: B027
        """Write what the validation rows were answered, for a task that shows it; arguments as for `evaluation`."""

    def calibrates(self, arguments: Any) -> bool:
        """Whether the arguments ask for `calibrate`."""
        return False

    def calibrate(
        self, outputs: tuple[Array, ...], truth: Array, labels: Labels | None, arguments: Any
    ) -> Fitted:
        """Fit to the validation rows, after the training, what the model decides by; see `sparseml.calibrate`.

        Args:
            outputs, truth: as for `evaluation`.
            arguments: an instance of `arguments`.
        """
        raise NotImplementedError

    def evaluate(self, trainer: RecipeTrainer, rows: Any) -> dict[str, float] | None:
        """Metrics named `eval_...` on encoded rows, for a task that evaluates in its own way; None: by `metrics`."""
        return None

    @abstractmethod
    def write_predictions(
        self, stem: Path, outputs: tuple[Array, ...], data: TextData, labels: Labels | None, rows: Any
    ) -> Path:
        """Write the predictions of the test rows.

        Args:
            stem: the path without its ending.
            outputs: the model's, in the order of `output_names`; first dimension: rows.
            rows: encoded, in the order of the outputs.

        Returns:
            The file.
        """

    # Guided runs; `guided` says whether the task has them.

    def initialize_head(
        self, model: nn.Module, new: Collection[str], data: TextData, labels: Labels | None
    ) -> bool:
        """Set a newly made head to what a guided run begins with, in place; by default it stays random.

        Args:
            model: with its weights loaded.
            new: names of the parameters that the checkpoint did not have.

        Returns:
            Whether there was such a head.
        """
        return False

    def balance_head(  # noqa: B027  most have no classes to weight
        self, model: nn.Module, new: Collection[str], data: TextData, labels: Labels | None, arguments: Any
    ) -> None:
        """Fit what `initialize_head` has set to the weights that the task's `loss` gives the classes, in place."""

    def choose(
        self, data: TextData, labels: Labels | None, arguments: Any, given: Collection[str]
    ) -> list[str]:
        """Choose, in place, arguments of the task's own that were not given, by the data.

        Args:
            arguments: an instance of `arguments`.
            given: names of those that the user gave.

        Returns:
            Lines to print about it.
        """
        return []

    def truth(self, split: Any) -> Array | None:
        """What is right for each row of a split, for `assess`; None where that is not known."""
        return np.asarray(list(split["labels"])) if "labels" in split.column_names else None

    def assess(
        self, pipeline: Pipeline[Any, Any], texts: Sequence[Texts], truth: Array, labels: Labels | None
    ) -> dict[str, Any]:
        """What a deployed model gets right and wrong, as facts for `report.json` and `summarize`.

        Args:
            texts: the rows.
            truth: see `truth`.
        """
        raise NotImplementedError

    def summarize(self, facts: Mapping[str, Any], width: int) -> list[str]:
        """The summary at the end of a guided run, a line each.

        Args:
            facts: of `assess` under "answers", and those of `training/conclusion.py`.
            width: characters in a line.
        """
        raise NotImplementedError

    # The model card.

    def pipeline_tag(self, model_class: str) -> str | None:
        """The Hub's name of what a model of a class of Transformers does; None where it has none."""
        return None

    def usage(self, address: str) -> list[str]:
        """Commands that show how to use a trained model.

        Args:
            address: its folder or Hub id.
        """
        return [
            f"sparseml export --task {self.name} --model_path {address}   # writes deployment/",
            f"deepsparse.server --task {self.name} --model_path deployment",
        ]

    # Export.

    def texts(self, data: TextData, split: Any) -> list[Texts]:
        """A split's rows as the tokenizer takes them."""
        return list(zip(*(list(split[column]) for column in data.columns.texts), strict=True))

    def decisions(self, outputs: Mapping[str, Array], mask: Array) -> tuple[Array, Array]:
        """What the model decides, for comparing an export with PyTorch.

        Args:
            outputs: a batch's, by name.
            mask: its attention mask, [batch, tokens].

        Returns:
            Logits [decisions, choices], and the row [decisions] that each decision belongs to: for a classifier of
            texts a decision a row, for one of tokens a decision a token, for spans their starts and their ends.
        """
        return outputs["logits"], np.arange(len(mask))

    def deployment_config(self, config: Any) -> dict[str, Any]:
        """The deployment's config.json, with what readers without Transformers need spelled out."""
        values = {key: value for key, value in config.to_dict().items() if key != "_name_or_path"}
        names = {str(index): str(config.id2label[index]) for index in range(config.num_labels)}
        return {
            **values,
            "num_labels": config.num_labels,
            "id2label": names,
            "label2id": {name: int(index) for index, name in names.items()},
            "task": self.name,
        }

    @abstractmethod
    def evaluate_deployment(self, pipeline: Pipeline[Any, Any], options: DataOptions) -> dict[str, float]:
        """The metrics of a deployed model on labelled data, run as it is deployed.

        Raises:
            UserError: the data cannot be had, or have labels that the model does not have.
        """
