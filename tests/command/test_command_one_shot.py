"""`--one_shot`: a recipe that prunes and quantizes a trained classifier from calibration batches, and its export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deepsparse import Pipeline
from sparseml.session.models import load_trained
from sparseml.transformers import export
from support import tiny
from support.tiny import train

pytestmark = pytest.mark.usefixtures("one_thread")

PARAMS = '["re:bert.encoder.*(query|key|value|dense).weight"]'
QUANTIZE = """
  - !QuantizationModifier
      num_calibration_steps: 4
      quantize_linear_activations: 0
      exclude_module_types: [LayerNorm, Tanh]
      submodules: [bert.embeddings, bert.encoder, bert.pooler, classifier]
"""
PRUNERS = {
    "layer-wise, from calibration": f"""
  - !LayerwisePruningModifier
      params: {PARAMS}
      final_sparsity: 0.75
      num_calibration_steps: 4
""",
    "blocks of four": f"""
  - !MagnitudePruningModifier
      params: {PARAMS}
      init_sparsity: 0.0
      final_sparsity: 0.75
      start_epoch: 0.0
      end_epoch: 0.0
      update_frequency: 1.0
      mask_type: block4
""",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, rows_folder: Path) -> Path:
    """A dense classifier that knows good words from bad ones."""
    folder = tmp_path_factory.mktemp("one_shot")
    start = tiny.bert(folder / "start", sparsity=0.0)
    train(start, rows_folder, folder / "trained", recipe=None, num_train_epochs=6, learning_rate=3e-3)
    return folder / "trained"


@pytest.mark.parametrize("pruner", PRUNERS.values(), ids=PRUNERS)
def test_it_prunes_quantizes_and_exports(
    trained: Path, rows_folder: Path, tmp_path: Path, pruner: str
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"modifiers:{pruner}{QUANTIZE}")
    out = tmp_path / "out"
    report = train(trained, rows_folder, out, recipe=recipe, do_train=None, one_shot=True, do_eval=True)
    assert report["totals"]["quantized_share"] == 1.0

    model: Any = load_trained(out)
    for name, weight in model.named_parameters():
        if "encoder" in name and weight.ndim == 2:
            assert int((weight == 0).sum()) == round(0.75 * weight.numel()), name
            if "block" in recipe.read_text():
                zeros = (weight.reshape(-1, 4) == 0).sum(1)
                assert set(zeros.tolist()) == {0, 4}

    export.main([str(out), "--deployment_directory_name", "deployment"])
    texts = [row["text"] for row in tiny.rows(24, seed=3)]
    pipeline = Pipeline.create("text_classification", tmp_path / "deployment", engine_type="onnxruntime")
    found = pipeline(texts).labels
    tokenizer = tiny.tokenizer()
    with torch.no_grad():
        logits = np.stack([model(**tokenizer(text, return_tensors="pt")).logits[0].numpy() for text in texts])
    names = [model.config.id2label[index] for index in logits.argmax(1)]
    assert np.mean([one == other for one, other in zip(found, names, strict=True)]) >= 23 / 24
