"""Text in, labels out, from an exported model, on the processor.

from deepsparse import Pipeline

classify = Pipeline.create(task="text_classification", model_path="deployment/")
classify(["What a day!", "Not again."]).labels
"""

from __future__ import annotations

from resparse import __version__
from resparse.errors import refuse_foreign

refuse_foreign("deepsparse")

# Only now (E402): with a foreign distribution beside ours, these would be a mixture of both.
from deepsparse.engine import Engine, compile_model  # noqa: E402
from deepsparse.errors import DeepsparseError, EngineError, InputError, ModelError  # noqa: E402
from deepsparse.pipeline import Pipeline  # noqa: E402
from deepsparse.scorer import Scorer  # noqa: E402
from deepsparse.tasks.label_set import Prediction  # noqa: E402
from deepsparse.tasks.text_classification import TextClassificationOutput, TextClassificationPipeline  # noqa: E402

__all__ = [
    "DeepsparseError",
    "Engine",
    "EngineError",
    "InputError",
    "ModelError",
    "Pipeline",
    "Prediction",
    "Scorer",
    "TextClassificationOutput",
    "TextClassificationPipeline",
    "__version__",
    "compile_model",
]
