"""Where a new classifier begins: what it reads of a text, and its first weights. A guided run of few rows chooses both.

Measured by benchmarks/few_rows.py (docs/few_rows.md): with few rows of one text, the mean of the tokens and a
classifier that begins at logistic regression score higher than the first token and a random classifier, and contrastive
steps before it higher still.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from resparse.console import say
from sparseml.data.label_encoding import REGRESSION, SINGLE, Labels
from sparseml.options.environment import fewer_steps
from sparseml.options.table import ArgumentError
from sparseml.session.contrast import can_contrast, contrast
from sparseml.session.head_start import begin_at_regression, new_last_layer
from sparseml.session.pooling import KEY, MEAN, can_pool, pass_through, set_pooling
from sparseml.training.arguments import Arguments
from sparseml.training.prepare import Prepared

MOST_A_CLASS: Final = 100
MOST_ROWS: Final = 2_000
"""Up to so many training rows a class, and in all, rows are few. A score counts as two classes."""
_LEAST_CONTRAST, _MOST_CONTRAST, _CONTRAST_A_ROW = 80, 160, 5
MOST_CONTRASTED: Final = 40
"""Up to so many training rows a class, contrastive steps are taken: measured at 8 and 32."""
_OF_CLASSIFIERS: Final = ("classifier_pooling", "head_first", "contrastive_steps")


def choose(arguments: Arguments, prepared: Prepared) -> bool:
    """Set, in place, what the classifier reads: as asked, or as suits few rows; notes in the arguments what follows.

    Returns:
        Whether encoder and classifier will have learned of the rows before the training, by contrastive steps.

    Raises:
        ModelError: what is asked for cannot be had of this architecture.
        ArgumentError: something is asked for that has no effect.
    """
    asked, loaded, labels = arguments.model, prepared.loaded, prepared.labels
    if not prepared.task.one_output_a_row:
        names = [name for name in _OF_CLASSIFIERS if getattr(asked, name) not in (None, False)]
        if names:
            raise ArgumentError(
                f"--{names[0]} is of text classification, not of {prepared.task.name}: leave it out."
            )
        return False
    if not arguments.learns or labels is None or new_last_layer(loaded.model, loaded.new) is None:
        return False
    one_text = len(prepared.data.columns.texts) == 1  # of pairs, no gain was measured
    rows = len(prepared.data.train or ())
    few = arguments.guided is not None and one_text and are_few(rows, labels)
    chosen = []
    if few and asked.classifier_pooling is None and can_pool(loaded.model):
        asked.classifier_pooling = MEAN
        chosen.append(f"the classifier reads the mean of all tokens (--{KEY} cls: the first one)")
    if few and asked.head_first is None:
        asked.head_first = True
        chosen.append("it begins at logistic regression on the start's features (--no_head_first: at random)")
    very_few = few and rows <= MOST_CONTRASTED * _classes(labels)
    if very_few and asked.contrastive_steps is None and asked.head_first and _comparable(prepared, labels):
        asked.contrastive_steps = fewer_steps(contrastive_steps(rows, labels))
        chosen.append(
            f"before that, {asked.contrastive_steps} steps move texts of a class together (--contrastive_steps 0: none)"
        )
    if asked.contrastive_steps and (not asked.head_first or labels.kind != SINGLE):
        raise ArgumentError(
            "--contrastive_steps come before a classifier of single labels that is fitted by --head_first: give that."
        )
    if chosen:
        say(f"few rows ({_a_class(prepared, labels)}): {'; '.join(chosen)}")
    if asked.classifier_pooling is not None:
        set_pooling(loaded.model, asked.classifier_pooling)
        if asked.classifier_pooling == MEAN and can_pool(loaded.model):
            pass_through(loaded.model)
    return bool(asked.contrastive_steps) and _comparable(prepared, labels)


def begin(arguments: Arguments, prepared: Prepared, rows: Any) -> None:
    """Fit the new classifier to the encoded training rows, in place, where that is asked for or chosen."""
    labels = prepared.labels
    if not (arguments.model.head_first and arguments.training.do_train and labels is not None):
        return
    model = prepared.loaded.model
    collate = prepared.task.collate(prepared.tokenizer, labels)
    layer, steps = new_last_layer(model, prepared.loaded.new), arguments.model.contrastive_steps or 0
    if steps and layer is not None and labels.kind == SINGLE:
        if can_contrast(np.asarray(rows["labels"])):
            model.to(arguments.training.device)
            contrast(model, layer, rows, collate, steps, arguments.training.seed)
        else:
            say("--contrastive_steps has no effect: no two classes have two rows each.")
    count = begin_at_regression(model, prepared.loaded.new, rows, collate, labels.kind)
    if count == 0:
        say("--head_first has no effect: the start has a classifier of these classes already.")


def contrastive_steps(rows: int, labels: Labels) -> int:
    """How many are good for so many rows: 80 for 8 a class, 160 for 32 (benchmarks/results/few_rows_contrast.md)."""
    return min(max(_CONTRAST_A_ROW * rows // _classes(labels), _LEAST_CONTRAST), _MOST_CONTRAST)


def _comparable(prepared: Prepared, labels: Labels) -> bool:
    """Whether contrastive steps can be made with the training rows."""
    train = prepared.data.train
    return labels.kind == SINGLE and train is not None and can_contrast(np.asarray(list(train["labels"])))


def are_few(rows: int, labels: Labels) -> bool:
    """Whether so many training rows are few."""
    return 0 < rows <= min(MOST_A_CLASS * _classes(labels), MOST_ROWS)


def _classes(labels: Labels) -> int:
    return 2 if labels.kind == REGRESSION else max(labels.num_labels, 2)


def _a_class(prepared: Prepared, labels: Labels) -> str:
    rows = len(prepared.data.train or ())
    if labels.kind == REGRESSION:
        return f"{rows:,}"
    return f"{rows:,}, about {rows / labels.num_labels:.0f} a class"
