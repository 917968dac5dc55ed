"""The arguments of text classification's training command."""

from __future__ import annotations

from functools import partial

from sparseml.tasks import load_task
from sparseml.training import arguments

TASK = load_task("text_classification")

parse = partial(arguments.parse, TASK)
all_options = partial(arguments.all_options, TASK)
