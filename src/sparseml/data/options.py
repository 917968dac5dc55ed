"""What the user asked for: where the data are, and what the run does with them."""

from __future__ import annotations

from dataclasses import dataclass

from sparseml.data.labels import Labels


@dataclass(frozen=True)
class DataOptions:
    """Which data to load, under the names of the command's arguments.

    Attributes:
        task_name: a GLUE task ("cola", ..., "wnli") or "imdb"; with files given, these are read in place of
            the Hub's copy, and the task still decides columns, class names and metrics.
        dataset_name: a Hub id, or a local folder (data files, or what `save_to_disk` wrote).
        dataset_config_name: the configuration of a Hub dataset, or a subfolder of a local one.
        train_file, validation_file, test_file: a path, a glob pattern, or several separated by commas; CSV,
            TSV, JSON, JSON Lines or Parquet by their endings.
        validation_ratio: share of the training rows to hold out for evaluation, between 0 and 1.
        hold_out: hold rows out for evaluation where there is no validation split; their number decides how many.
        eval_on_test: evaluate on the test split.
        input_column_names: "a" or "a,b"; None chooses.
        label_column_name: None chooses; so does the default "label" where no such column exists.
        do_regression: numbers as labels are scores (True) or classes (False); None decides from the values.
        max_train_samples, max_eval_samples, max_predict_samples: use no more rows than these.
        cache_dir: where Hub datasets are kept; None is the Hub client's own place.
        token: for private datasets: True is the stored login, a string is the token itself.
        seed: of the hold-out and of the choice of rows.
        needs_train, needs_eval, needs_predict: what the run does; only these splits are demanded.
        known_labels: the labels of a model that is not to be trained now: its order is kept.
    """

    task_name: str | None = None
    dataset_name: str | None = None
    dataset_config_name: str | None = None
    train_file: str | None = None
    validation_file: str | None = None
    test_file: str | None = None
    validation_ratio: float | None = None
    hold_out: bool = False
    eval_on_test: bool = False
    input_column_names: str | None = None
    label_column_name: str | None = "label"
    do_regression: bool | None = None
    max_train_samples: int | None = None
    max_eval_samples: int | None = None
    max_predict_samples: int | None = None
    cache_dir: str | None = None
    token: bool | str | None = None
    seed: int = 42
    needs_train: bool = True
    needs_eval: bool = True
    needs_predict: bool = False
    known_labels: Labels | None = None
