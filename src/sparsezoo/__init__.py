"""The zoo: from `zoo:` stubs to the files of models and recipes, wherever they live now.

from sparsezoo import Model

stub = "zoo:nlp/text_classification/obert-base/pytorch/huggingface/mnli/pruned90_quant-none"
recipe = Model(stub).recipes.default.path
"""

from __future__ import annotations

from resparse.errors import refuse_foreign

refuse_foreign("sparsezoo")

# Only now (E402): with a foreign distribution beside ours, these would be a mixture of both.
from sparsezoo.analysis import analyze  # noqa: E402
from sparsezoo.common import ZooError  # noqa: E402
from sparsezoo.model import Directory, File, Model, Recipes  # noqa: E402
from sparsezoo.resolve import local_path, recipe_path  # noqa: E402
from sparsezoo.search import search_models  # noqa: E402
from sparsezoo.stub import Stub, is_stub, parse_stub  # noqa: E402

__all__ = [
    "Directory",
    "File",
    "Model",
    "Recipes",
    "Stub",
    "ZooError",
    "analyze",
    "is_stub",
    "local_path",
    "parse_stub",
    "recipe_path",
    "search_models",
]
