"""What few rows are trained with: mean pooling, in PyTorch and exported, and a head that begins at a regression."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deepsparse import Pipeline
from sparseml.data.label_encoding import MULTI, REGRESSION, SINGLE, Labels
from sparseml.session.head_start import begin_at_regression, regression
from sparseml.session.models import Source, load_model, load_trained
from sparseml.session.pooling import MEAN, pass_through, set_pooling
from sparseml.session.sources import ModelError
from sparseml.tasks import load_task
from sparseml.training import conclusion
from sparseml.training.classifier_start import are_few, contrastive_steps
from sparseml.transformers.text_classification import main
from support import encoders, tiny


def batch(rows: int = 3, tokens: int = 9) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(rows, tokens, dtype=torch.int64)
    mask[1, 4:] = 0
    return {
        "input_ids": torch.randint(5, encoders.VOCABULARY, (rows, tokens), generator=generator),
        "attention_mask": mask,
    }


@torch.no_grad()
def test_the_classifier_reads_the_mean_of_what_is_no_padding(tmp_path: Path) -> None:
    model = encoders.dense("bert")
    inputs = batch()
    hidden = model.bert(**inputs).last_hidden_state
    first = model(**inputs).logits
    set_pooling(model, MEAN)
    means = torch.stack(
        [row[: int(mask.sum())].mean(0) for row, mask in zip(hidden, inputs["attention_mask"], strict=True)]
    )
    expected = model.classifier(torch.tanh(model.bert.pooler.dense(means)))
    torch.testing.assert_close(model(**inputs).logits, expected)
    # Saved and loaded it still does, under the keys that every loader knows; and it can be undone.
    model.save_pretrained(tmp_path)
    loaded = load_model(Source("it", tmp_path), load_task().model_class).model.eval()
    assert loaded.state_dict().keys() == encoders.dense("bert").state_dict().keys()
    torch.testing.assert_close(loaded(**inputs).logits, expected)
    set_pooling(loaded, "cls")
    torch.testing.assert_close(loaded(**inputs).logits, first)


@torch.no_grad()
def test_a_pooler_that_passes_through_gives_the_mean() -> None:
    model = encoders.dense("bert")
    set_pooling(model, MEAN)
    pass_through(model)
    inputs = {name: value[:1] for name, value in batch().items()}
    mean = model.bert(**inputs).last_hidden_state.mean(1)
    torch.testing.assert_close(model.bert(**inputs).pooler_output, torch.tanh(mean))


def test_an_architecture_without_that_choice_is_refused() -> None:
    with pytest.raises(ModelError, match="cannot be chosen"):
        set_pooling(encoders.dense("roberta"), MEAN)
    set_pooling(encoders.dense("roberta"), "cls")  # what it does anyway
    native = encoders.dense("modernbert")
    set_pooling(native, MEAN)
    assert native.config.classifier_pooling == MEAN


@pytest.mark.parametrize(("kind", "outputs"), [(SINGLE, 2), (SINGLE, 4), (MULTI, 3), (REGRESSION, 1)])
def test_the_first_classifier_is_right_where_features_tell(kind: Any, outputs: int) -> None:
    """On features that a linear layer made the labels of, it finds that layer's decisions again."""
    source = np.random.default_rng(0)
    features, layer = 3 + 5 * source.normal(size=(300, 6)), source.normal(size=(outputs, 6))
    logits = features @ layer.T
    logits -= logits.mean(axis=0)
    truth: Any = logits[:, 0]
    if kind == SINGLE:
        truth = logits.argmax(axis=1)
    elif kind == MULTI:
        truth = (logits > 0).astype(np.int64)
    weight, bias = regression(features, truth, kind, outputs)
    found = features @ weight.T + bias
    if kind == SINGLE:
        assert (found.argmax(axis=1) == truth).mean() > 0.95
    elif kind == MULTI:
        assert ((found > 0) == truth).mean() > 0.95
    else:
        assert np.corrcoef(found[:, 0], truth)[0, 1] > 0.99


def test_a_class_without_rows_is_never_chosen() -> None:
    features = np.random.default_rng(0).normal(size=(20, 4))
    weight, bias = regression(features, (features[:, 0] > 0).astype(np.int64) * 2, SINGLE, 3)
    chosen = (features @ weight.T + bias).argmax(axis=1)
    assert set(chosen) <= {0, 2} and (chosen == (features[:, 0] > 0) * 2).mean() > 0.9


def test_a_classifier_that_was_trained_before_stays() -> None:
    model = encoders.dense("bert")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert begin_at_regression(model, [], None, lambda rows: {}, SINGLE) == 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("rows", "kind", "classes", "few"),
    [
        (0, SINGLE, 2, False),
        (200, SINGLE, 2, True),
        (201, SINGLE, 2, False),
        (2001, SINGLE, 150, False),
        (200, REGRESSION, 1, True),
        (300, MULTI, 3, True),
    ],
)
def test_what_few_rows_are(rows: int, kind: Any, classes: int, few: bool) -> None:
    assert are_few(rows, Labels(kind, tuple(map(str, range(classes))))) is few


@pytest.mark.parametrize(
    ("rows", "classes", "steps"), [(2, 2, 80), (48, 6, 80), (120, 5, 120), (192, 6, 160)]
)
def test_more_rows_are_contrasted_in_more_steps(rows: int, classes: int, steps: int) -> None:
    assert contrastive_steps(rows, Labels(SINGLE, tuple(map(str, range(classes))))) == steps


@pytest.mark.usefixtures("one_thread")
def test_a_guided_run_of_few_rows_says_so_and_runs_in_the_native_engine(
    pruned_model: Path, rows_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(conclusion, "_SECONDS", 0.02)
    output = tmp_path / "run"
    main(
        model_name_or_path=str(pruned_model),
        train_file=str(rows_folder / "train.csv"),
        validation_file=str(rows_folder / "validation.csv"),
        output_dir=str(output),
        num_train_epochs=2,
        eval_strategy="no",
    )
    said = capsys.readouterr().err
    assert "few rows (48, about 24 a class): the classifier reads the mean of all tokens" in said
    assert (
        f"before that, {contrastive_steps(48, Labels(SINGLE, ('0', '1')))} steps move texts of a class together"
        in " ".join(said.split())
    )
    assert json.loads((output / "config.json").read_text())["classifier_pooling"] == MEAN
    assert "Not with Transformers alone" in (output / "README.md").read_text()
    texts = [row["text"] for row in tiny.rows(16, seed=1)]
    model = load_trained(output)
    encoded = tiny.tokenizer()(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model(**encoded).logits.numpy()
    for engine in ("native", "onnxruntime"):
        pipeline = Pipeline.create("text_classification", output / "deployment", engine_type=engine)
        found = pipeline.logits(texts)
        assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.9
        np.testing.assert_allclose(found, expected, atol=0.5)
