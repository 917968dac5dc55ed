"""SparseML 1.8's own int8 export of a model, made in SparseML's environment.

    python sparseml_export.py FOLDER OUT.onnx --length 128

The recipe's quantization is applied, ranges come from a few rows of random tokens, and SparseML's exporter writes the
file. Its exporter calls `torch.onnx.export` as it was before PyTorch 2.9: the old one is asked for by name here, and
nothing else is changed.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import tempfile
from pathlib import Path

import torch

_MODULES = {
    "bert": ["bert.embeddings", "bert.encoder", "bert.pooler", "classifier"],
    "roberta": ["roberta.embeddings", "roberta.encoder", "classifier"],
    "distilbert": ["distilbert.embeddings", "distilbert.transformer", "pre_classifier", "classifier"],
}
_RECIPE = """
modifiers:
  - !QuantizationModifier
      start_epoch: 0.0
      disable_quantization_observer_epoch: 5.0
      freeze_bn_stats_epoch: 5.0
      quantize_embeddings: 1
      quantize_linear_activations: 0
      exclude_module_types: ['LayerNorm', 'Tanh']
      submodules: {modules}
"""


def ask_for_the_old_exporter():
    export = torch.onnx.export
    known = set(inspect.signature(export).parameters)

    def old(*args, **kwargs):
        kwargs = {name: value for name, value in kwargs.items() if name in known}
        return export(*args, **{**kwargs, "dynamo": False})

    torch.onnx.export = old


def make_attention_quantizable(model, family):
    """What SparseML does to attention before it quantizes; for RoBERTa, which it leaves out, what it does to BERT."""
    from sparseml.pytorch.utils.helpers import swap_modules

    known = "distilbert" if family == "distilbert" else "bert"
    module = importlib.import_module(f"sparseml.transformers.sparsification.modification.modifying_{known}")
    module.check_transformers_version = lambda *_: True
    if family != "roberta":
        module.modify(model)
        # For DistilBERT it sets the class where an instance was meant, and cannot run what it made.
        for part in model.modules():
            for name in ("attention_scores_matmul", "context_layer_matmul"):
                if isinstance(getattr(part, name, None), type):
                    setattr(part, name, getattr(part, name)())
        return
    for name, part in list(model.named_modules()):
        if type(part).__name__ == "RobertaSelfAttention":
            swap_modules(model, name, module.BertSelfAttentionWithQuantizableMatmuls(part))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("out")
    parser.add_argument("--length", type=int, default=128)
    asked = parser.parse_args()
    ask_for_the_old_exporter()
    from sparseml.pytorch.optim import ScheduledModifierManager
    from sparseml.pytorch.utils.exporter import export_onnx
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(asked.folder, attn_implementation="eager")
    family = model.config.model_type
    make_attention_quantizable(model, family)
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "recipe.yaml"
        recipe.write_text(_RECIPE.format(modules=_MODULES[family]))
        ScheduledModifierManager.from_yaml(str(recipe)).apply(model, epoch=0.5, finalize=False)
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    torch.manual_seed(0)
    with torch.no_grad():
        for _ in range(4):
            ids = torch.randint(1000, 2000, (4, asked.length))
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
    model.eval().apply(torch.ao.quantization.disable_observer)
    ids = torch.randint(1000, 2000, (1, asked.length))
    sample = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if family == "bert":
        sample["token_type_ids"] = torch.zeros_like(ids)
    export_onnx(module=model, sample_batch=sample, file_path=asked.out, convert_qat=True, opset=14)


if __name__ == "__main__":
    main()
