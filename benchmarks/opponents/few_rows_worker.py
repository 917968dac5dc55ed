"""SetFit or Model2Vec on a few rows, in an environment of its own: accuracy on the test rows into a JSON file.

    python few_rows_worker.py setfit MODEL TRAIN.jsonl TEST.jsonl OUT.json --columns text --label label --seed 0

It needs setfit 1.2.0 (sentence-transformers 6), or model2vec[distill] 0.10.0 and scikit-learn. MODEL is a folder of a
sentence encoder. SetFit reads the two texts of a pair as one, with [SEP] between; of Model2Vec's two embeddings the
features are either, the absolute difference and the product, as those of our TF-IDF baseline.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

ITERATIONS = 20


def setfit(asked, train, test):
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    def joined(rows):
        return [" [SEP] ".join(row[column] for column in asked.columns) for row in rows]

    labels = [row[asked.label] for row in train]
    model = SetFitModel.from_pretrained(asked.model)
    arguments = TrainingArguments(
        output_dir=str(asked.out.parent / "checkpoints"),
        num_iterations=ITERATIONS,
        num_epochs=1,
        seed=asked.seed,
        save_strategy="no",
        report_to="none",
        show_progress_bar=False,
    )
    rows = Dataset.from_dict({"text": joined(train), "label": labels})
    Trainer(model=model, args=arguments, train_dataset=rows).train()
    return np.asarray(model.predict(joined(test), show_progress_bar=False))


def model2vec(asked, train, test):
    from model2vec.distill import distill
    from sklearn.linear_model import LogisticRegression

    static = distill(model_name=asked.model)

    def features(rows):
        blocks = [static.encode([row[column] for row in rows]) for column in asked.columns]
        if len(blocks) == 2:
            blocks += [abs(blocks[0] - blocks[1]), blocks[0] * blocks[1]]
        return np.concatenate(blocks, axis=1)

    found = features(train)
    middle, spread = found.mean(axis=0), found.std()
    classifier = LogisticRegression(max_iter=1000).fit(
        (found - middle) / spread, [row[asked.label] for row in train]
    )
    return classifier.predict((features(test) - middle) / spread)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("contestant", choices=("setfit", "model2vec"))
    parser.add_argument("model")
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--columns", nargs="+", required=True)
    parser.add_argument("--label", required=True)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    train, test = (
        [json.loads(line) for line in path.read_text().splitlines()] for path in (asked.train, asked.test)
    )
    predicted = {"setfit": setfit, "model2vec": model2vec}[asked.contestant](asked, train, test)
    right = np.mean(predicted == np.array([row[asked.label] for row in test]))
    asked.out.write_text(json.dumps({"accuracy": float(right), "rows": len(train)}))


if __name__ == "__main__":
    main()
