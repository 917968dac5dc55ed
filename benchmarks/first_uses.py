"""What each extra promises: commands that have to work with it, and those that have to say what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

DEPLOYMENT = "{deployment}"
"""Stands in commands for an exported folder."""


@dataclass(frozen=True)
class Use:
    """A command in the new environment.

    Attributes:
        command: its words; the first is a console script, or `python`.
        says: what the output has to contain.
        code: its exit status.
    """

    command: Sequence[str]
    says: str = ""
    code: int = 0


def _python(*lines: str, says: str = "", code: int = 0) -> Use:
    return Use(["python", "-c", "\n".join(lines)], says, code)


def _refusal(*command: str, extra: str) -> Use:
    """A command that needs another extra, and has to say which."""
    return Use(command, f"resparse[{extra}]", 2)


_PIPELINE = ("from deepsparse import Pipeline", f"classify = Pipeline.create(model_path={DEPLOYMENT!r})")
_PREDICT = ("sparseml", "predict", DEPLOYMENT, "--input", "rows.csv", "--output", "labelled.csv")
_TRAIN = ("sparseml", "train", "--train_file", "rows.csv", "--output_dir", "trained")

LIGHT = [
    _python("import deepsparse, sparseml, sparsezoo"),
    Use(["sparseml", "--help"], "train"),
    Use(["sparseml", "recipe", "modifiers"], "QuantizationModifier"),
    Use(["sparsezoo", "search", "--sub-domain", "masked_language_modeling"], "zoo:nlp/"),
    Use(["deepsparse.server", "--help"], "--model_path"),
]
"""What works with any extra, and without one."""

_NO_TRAINING = [
    _refusal(*_TRAIN, extra="torch"),
    _refusal("sparseml", "export", "trained", extra="torch"),
    _refusal("sparseml.transformers.text_classification", "--help", extra="torch"),
]
_NO_RUNTIME = [
    _refusal(*_PREDICT, extra="runtime"),
    Use(["deepsparse.benchmark", DEPLOYMENT, "--time", "1"], "ms"),  # token ids, in the native engine
    _refusal("deepsparse.benchmark", DEPLOYMENT, "--text", "rows.csv", extra="runtime"),
    _refusal(
        "deepsparse.server", "--task", "text_classification", "--model_path", DEPLOYMENT, extra="server"
    ),
    _python(*_PIPELINE, says="resparse[runtime]", code=1),
]
_ANSWERS = [
    _python(*_PIPELINE, "print(classify(['a fine day']).labels)", says="['"),
    Use(_PREDICT),
    Use(["deepsparse.benchmark", DEPLOYMENT, "--time", "1"], "ms"),
    Use(["serve", DEPLOYMENT], "labels"),
]
_ENGINE = (
    "from pathlib import Path",
    "import numpy as np",
    "from deepsparse import Engine",
    f"engine = Engine(Path({DEPLOYMENT!r}), engine_type='openvino')",
    "ids = np.array([[101, 2023, 102]])",
    "feeds = {'input_ids': ids, 'attention_mask': ids * 0 + 1, 'token_type_ids': ids * 0}",
    "print(engine.engine_type, engine.run(feeds)[0].shape)",
)

USES: Mapping[str, Sequence[Use]] = {
    "": [*LIGHT, *_NO_TRAINING, *_NO_RUNTIME],
    "torch": [
        *LIGHT,
        Use(["sparseml.transformers.text_classification", "--help"], "--train_file"),
        Use(_TRAIN, "trained/deployment"),
        Use(["sparseml", "report", "trained"]),
        Use(["sparsezoo.analyze", "trained/deployment"], "zeros"),
        Use(["sparseml", "export", "trained", "--target_path", "exported"]),
        Use(["sparseml", "predict", "trained/deployment", "--input", "rows.csv", "--output", "labelled.csv"]),
        _refusal(
            "deepsparse.server", "--task", "text_classification", "--model_path", DEPLOYMENT, extra="server"
        ),
    ],
    "runtime": [*LIGHT, *_ANSWERS, *_NO_TRAINING],
    "server": [*LIGHT, *_ANSWERS],
    "openvino": [*LIGHT, _python(*_ENGINE, says="openvino"), *_NO_RUNTIME],
    "runtime,openvino": [
        _python(
            _PIPELINE[0],
            _PIPELINE[1].replace(")", ", engine_type='openvino')"),
            "print(classify.engine.engine_type)",
        ),
        *_ANSWERS,
    ],
    "search": [*LIGHT, Use(["sparseml", "search", "--help"], "optuna"), *_NO_TRAINING],
    "ray": [
        *LIGHT,
        *_ANSWERS,
        Use(["sparseml", "predict", "--ray", DEPLOYMENT, "--input", "rows.csv", "--output", "blocks"]),
    ],
    "bench": [*LIGHT, _python("import matplotlib, psutil")],
    "dev": [*LIGHT, Use(["pytest", "--version"]), Use(["ruff", "--version"]), Use(["mypy", "--version"])],
}
"""By extra, or several with commas; the empty name is the package alone."""

NEEDS_TORCH = frozenset({"torch"})
