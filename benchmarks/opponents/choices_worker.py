"""One classifier of `choices.py`, from text to label, in whatever environment has it.

    python choices_worker.py KIND MODEL TEXTS.json --threads 2

It labels some texts one by one, after which its peak memory counts, then all in batches; the first line out tells both.
Then a line in names a size of batch and how many texts, {"batch": 16, "texts": 200}, and a line out says how long that
took, by the clock and of the processor. In batches, texts are sorted by their length first, for every contestant alike,
so that little is padded.

Kinds: `tfidf`, `fasttext`, `model2vec`, `setfit`; `pytorch`, `onnxruntime`, `openvino`, `ctranslate2` on a folder with
tokenizer.json; `deepsparse` 1.8 and `ours` on a deployment.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

MOST_TOKENS = 128
SINGLE_TEXTS, LABEL_BATCH = 100, 16
BUCKETS = (16, 32, 64, 128)
TASK = "text_classification"


def tfidf(folder, threads):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import joblib

    fitted = joblib.load(folder / "model.joblib")
    columns = fitted.features.columns

    def label(texts):
        rows = [dict(zip(columns, [text] if isinstance(text, str) else text, strict=True)) for text in texts]
        return fitted.predict(rows)

    return label


def fasttext(folder, threads):
    import fasttext
    from choices_build import as_line

    model = fasttext.load_model(str(folder / "model.bin"))
    names = json.loads((folder / "labels.json").read_text())

    def label(texts):
        found, _ = model.predict([as_line(text) for text in texts])
        return [names[one[0]] for one in found]

    return label


def model2vec(folder, threads):
    from choices_build import joined
    from model2vec.inference import StaticModelPipeline

    pipeline = StaticModelPipeline.from_pretrained(folder)
    return lambda texts: pipeline.predict([joined(text) for text in texts])


def setfit(folder, threads):
    import torch
    from choices_build import joined
    from setfit import SetFitModel

    torch.set_num_threads(threads)
    model = SetFitModel.from_pretrained(str(folder))
    return lambda texts: model.predict(
        [joined(text) for text in texts], batch_size=len(texts), show_progress_bar=False
    )


def pytorch(folder, threads):
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.set_num_threads(threads)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()

    def logits(feed):
        with torch.inference_mode():
            return model(**{name: torch.from_numpy(ids) for name, ids in feed.items()}).logits.numpy()

    return _tokenized(folder, logits)


def onnxruntime(folder, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_inputs()]
    return _tokenized(folder, lambda feed: session.run(None, {name: feed[name] for name in names})[0])


def openvino(folder, threads):
    import openvino

    file = next(path for path in (folder / "model.xml", folder / "model.onnx") if path.is_file())
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    # From this share of zeros on the weights stay compressed until they are multiplied.
    settings["CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE"] = 0.7
    compiled = openvino.Core().compile_model(str(file), "CPU", settings)
    request = compiled.create_infer_request()
    names = [value.any_name for value in compiled.inputs]

    def logits(feed):
        return next(iter(request.infer({name: feed[name] for name in names}).values()))

    return _tokenized(folder, logits)


def ctranslate2(folder, threads):
    import ctranslate2

    encoder = ctranslate2.Encoder(
        str(folder), device="cpu", compute_type="int8", inter_threads=1, intra_threads=threads
    )
    head = np.load(folder / "head.npz")

    def logits(feed):
        ids = [
            row[mask > 0].tolist()
            for row, mask in zip(feed["input_ids"], feed["attention_mask"], strict=True)
        ]
        types = [
            row[mask > 0].tolist()
            for row, mask in zip(feed["token_type_ids"], feed["attention_mask"], strict=True)
        ]
        pooled = np.asarray(encoder.forward_batch(ids, token_type_ids=types).pooler_output)
        return pooled @ head["weight"].T + head["bias"]

    return _tokenized(folder, logits)


def deepsparse(folder, threads):
    from transformers import AutoTokenizer

    from deepsparse import Pipeline

    tokenizer, pipelines = AutoTokenizer.from_pretrained(folder), {}

    def label(texts):
        # It pads to one length and runs full batches: the shortest of a few lengths that holds all.
        most = max(
            len(tokenizer(*([text] if isinstance(text, str) else text))["input_ids"]) for text in texts
        )
        key = next((length for length in BUCKETS if most <= length), BUCKETS[-1]), padded_count(len(texts))
        if key not in pipelines:
            pipelines[key] = Pipeline.create(
                task=TASK,
                model_path=str(folder),
                sequence_length=key[0],
                batch_size=key[1],
                num_cores=threads,
            )
        filled = texts + [texts[0]] * (key[1] - len(texts))
        return pipelines[key](sequences=filled).labels[: len(texts)]

    return label


def ours(folder, threads):
    from deepsparse import Pipeline

    classify = Pipeline.create(TASK, str(folder), engine_type="native", num_cores=threads)
    return lambda texts: classify(texts).labels


def _tokenized(folder, logits):
    """A classifier by an engine that takes arrays of a tokenizer's ids, by name, and gives logits."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(MOST_TOKENS)
    tokenizer.enable_padding()
    labels = folder / "labels.json"
    names = json.loads(labels.read_text() if labels.is_file() else (folder / "config.json").read_text())
    names = names.get("id2label", names)

    def label(texts):
        found = tokenizer.encode_batch([text if isinstance(text, str) else tuple(text) for text in texts])
        feed = {
            "input_ids": np.array([one.ids for one in found]),
            "attention_mask": np.array([one.attention_mask for one in found]),
            "token_type_ids": np.array([one.type_ids for one in found]),
        }
        return [names[str(best)] for best in np.argmax(logits(feed), axis=1)]

    return label


def padded_count(count):
    """The batch that a rest of `count` texts is filled up to: a power of two."""
    return 1 << (count - 1).bit_length()


def peak_mib():
    """The most that this process has held in memory; rusage would count what held it before exec, too."""
    with Path("/proc/self/status").open() as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def batches(texts, size):
    """The indices of texts in batches, those of a length together where there are several in one."""

    def length(index):
        text = texts[index]
        return len(text if isinstance(text, str) else "".join(text))

    order = sorted(range(len(texts)), key=length) if size > 1 else range(len(texts))
    return [order[start : start + size] for start in range(0, len(texts), size)]


def labels_of(label, texts):
    """The label of every text, in their order."""
    found = [""] * len(texts)
    for chosen in batches(texts, LABEL_BATCH):
        for index, name in zip(chosen, label([texts[index] for index in chosen]), strict=True):
            found[index] = str(name)
    return found


KINDS = {
    function.__name__: function
    for function in (
        tfidf,
        fasttext,
        model2vec,
        setfit,
        pytorch,
        onnxruntime,
        openvino,
        ctranslate2,
        deepsparse,
        ours,
    )
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("model", type=Path)
    parser.add_argument("texts", type=Path, help="a JSON file: a list of texts or of pairs")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    # What an engine prints must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    texts = json.loads(asked.texts.read_text())
    label = KINDS[asked.kind](asked.model, asked.threads)
    for text in texts[:SINGLE_TEXTS]:
        label([text])
    peak = peak_mib()
    print(json.dumps({"labels": labels_of(label, texts), "peak_mib": peak}), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        started, spent = time.perf_counter(), time.process_time()
        for chosen in batches(texts[: request["texts"]], request["batch"]):
            label([texts[index] for index in chosen])
        taken = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - spent}
        print(json.dumps(taken), file=answers)


if __name__ == "__main__":
    main()
