"""Makes one opponent of `choices.py`, in an environment that has its package.

    python choices_build.py KIND START TRAIN.jsonl VALIDATION.jsonl OUT --columns text --seed 0

Rows have the columns and `label`, a class's name. START is a folder: the sentence encoder for `model2vec` and `setfit`,
the trained dense classifier for `ctranslate2`, its float32 export for `openvino` and `onnxruntime` (int8, dynamic);
`fasttext` needs none. OUT is the folder that `choices_worker.py` serves. Needed: fasttext-numpy2-wheel; setfit 1.2;
model2vec[distill,train,inference,quantization] 0.10; openvino, nncf and tokenizers; ctranslate2, torch and
transformers; onnxruntime and onnx.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
from pathlib import Path

CALIBRATION_ROWS = 300


def joined(text):
    """A text, or the two of a pair as one."""
    return text if isinstance(text, str) else " [SEP] ".join(text)


def as_line(text):
    """A text as fastText reads it: lower case, marks apart from words, in one line."""
    import re

    return " ".join(re.findall(r"\w+|[^\w\s]", joined(text).lower()))


def fasttext(asked, train, validation):
    """Settings are chosen by the validation rows."""
    import fasttext

    asked.out.mkdir(parents=True)
    names = sorted({label for _, label in train})
    marks = {name: f"__label__{index}" for index, name in enumerate(names)}
    for path, rows in (("train.txt", train), ("validation.txt", validation)):
        lines = [f"{marks[label]} {as_line(text)}" for text, label in rows if label in marks]
        (asked.out.parent / path).write_text("\n".join(lines) + "\n")

    def trained(setting):
        return fasttext.train_supervised(
            input=str(asked.out.parent / "train.txt"),
            dim=50,
            bucket=100_000,
            thread=asked.threads,
            seed=asked.seed,
            verbose=0,
            **setting,
        )

    def without_nan():
        for setting in settings:
            try:
                yield trained(setting)
            except RuntimeError as error:  # it says so where a rate is too high: "Encountered NaN."
                print(setting, error)

    def score(model):
        found, _ = model.predict([as_line(text) for text, _ in validation])
        return sum(one[0] == marks.get(label) for one, (_, label) in zip(found, validation, strict=True))

    # Its own search runs until a time is up, so what it finds depends on what else the machine does.
    settings = [
        {"lr": rate, "epoch": epochs, "wordNgrams": words, "minn": shortest, "maxn": longest}
        for rate in (0.2, 0.6)
        for epochs in (25, 50)
        for words in (1, 2)
        for shortest, longest in ((0, 0), (3, 5))
    ]
    model = max(without_nan(), key=score)
    model.save_model(str(asked.out / "model.bin"))
    (asked.out / "labels.json").write_text(json.dumps({mark: name for name, mark in marks.items()}))


def model2vec(asked, train, validation):
    """Distilled from the encoder, then its own classifier with the embeddings trained along."""
    from model2vec.distill import distill
    from model2vec.train import StaticModelForClassification

    model = StaticModelForClassification.from_static_model(model=distill(model_name=str(asked.start)))
    texts, labels = zip(*((joined(text), label) for text, label in train), strict=True)
    checks, truths = zip(*((joined(text), label) for text, label in validation), strict=True)
    model.fit(list(texts), list(labels), X_val=list(checks), y_val=list(truths), device="cpu")
    model.to_pipeline().save_pretrained(str(asked.out))


def setfit(asked, train, validation):
    """On a few rows a class, by pairs, as in its paper."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    taken = {}
    for text, label in random.Random(asked.seed).sample(train, len(train)):
        own = taken.setdefault(label, [])
        if len(own) < asked.shots:
            own.append(joined(text))
    names = sorted(taken)
    rows = [(text, names.index(label)) for label, own in taken.items() for text in own]
    model = SetFitModel.from_pretrained(str(asked.start), labels=names)
    arguments = TrainingArguments(
        output_dir=str(asked.out.parent / "checkpoints"),
        num_iterations=20,
        num_epochs=1,
        seed=asked.seed,
        save_strategy="no",
        report_to="none",
        show_progress_bar=False,
    )
    texts, labels = zip(*rows, strict=True)
    few = Dataset.from_dict({"text": list(texts), "label": list(labels)})
    Trainer(model=model, args=arguments, train_dataset=few).train()
    model.save_pretrained(str(asked.out))


def onnxruntime(asked, train, validation):
    """Weights in int8 now, what flows between layers at run time."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    _with_tokenizer(asked)
    quantize_dynamic(asked.start / "model.onnx", asked.out / "model.onnx", weight_type=QuantType.QInt8)


def openvino(asked, train, validation):
    """NNCF's quantization after training, for a transformer, calibrated on training rows."""
    import nncf
    import numpy as np
    import openvino
    from tokenizers import Tokenizer

    _with_tokenizer(asked)
    tokenizer = Tokenizer.from_file(str(asked.start / "tokenizer.json"))
    tokenizer.enable_truncation(128)
    model = openvino.Core().read_model(str(asked.start / "model.onnx"))
    names = [value.any_name for value in model.inputs]

    def feed(row):
        text, _ = row
        found = tokenizer.encode(*([text] if isinstance(text, str) else text))
        values = {
            "input_ids": found.ids,
            "attention_mask": found.attention_mask,
            "token_type_ids": found.type_ids,
        }
        return {name: np.array([values[name]]) for name in names}

    rows = nncf.Dataset(random.Random(asked.seed).sample(train, min(CALIBRATION_ROWS, len(train))), feed)
    quantized = nncf.quantize(
        model, rows, model_type=nncf.ModelType.TRANSFORMER, subset_size=CALIBRATION_ROWS
    )
    openvino.save_model(quantized, str(asked.out / "model.xml"))


def ctranslate2(asked, train, validation):
    """Its BERT encoder in int8; the classifier's weights stay float32, for NumPy."""
    import ctranslate2
    import numpy as np
    from transformers import AutoModelForSequenceClassification

    ctranslate2.converters.TransformersConverter(str(asked.start)).convert(
        str(asked.out), quantization="int8"
    )
    head = AutoModelForSequenceClassification.from_pretrained(asked.start).classifier
    np.savez(asked.out / "head.npz", weight=head.weight.detach().numpy(), bias=head.bias.detach().numpy())
    shutil.copy(asked.start / "tokenizer.json", asked.out)
    names = json.loads((asked.start / "config.json").read_text())["id2label"]
    (asked.out / "labels.json").write_text(json.dumps(names))


def _with_tokenizer(asked):
    asked.out.mkdir(parents=True)
    for name in ("tokenizer.json", "config.json"):
        shutil.copy(asked.start / name, asked.out)


KINDS = {
    function.__name__: function
    for function in (fasttext, model2vec, setfit, onnxruntime, openvino, ctranslate2)
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("start", type=Path)
    parser.add_argument("train", type=Path)
    parser.add_argument("validation", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--columns", nargs="+", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shots", type=int, default=16, help="rows a class, for setfit")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()

    def read(path):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        texts = [[row[column] for column in asked.columns] for row in rows]
        return [
            (text if len(text) > 1 else text[0], row["label"]) for text, row in zip(texts, rows, strict=True)
        ]

    KINDS[asked.kind](asked, read(asked.train), read(asked.validation))


if __name__ == "__main__":
    main()
