"""Do probabilities come true after temperature scaling? What do thresholds by label gain? Are unknown subjects found?

Three small trainings from the embedded start, pruned and in int8, each exported; all scores are of the exported model
on test rows, computed by the runtime, beside those that the same model has without. CLINC150 is not among the data, so
that texts out of scope are those of classes that were held out of the training (TREC's questions for places and
numbers). A run that was stopped goes on with what is missing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from data import Rows
from deepsparse import Pipeline
from record import keep, table
from resparse import thresholds
from resparse.confidence import AS_IT_IS
from resparse.console import run
from small_trainings import EMOTION, Small, trained
from sparseml.calibrate import quality
from sparseml.data import DataOptions, Labels
from sparseml.metrics import multi_label_metrics
from sparseml.selective import outside_id, selective_metrics
from sparseml.tasks import load_task
from sparseml.tasks.text_classification import deployed_rows
from sparseml.transformers import export

OUTSIDE = "out_of_scope"
UNSEEN = ("NUM", "LOC")
BY_LABEL = ("--multi_label_threshold", "validation")
LEAST = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9)


def held_out(split: str, rows: Rows) -> Rows:
    """TREC without two of its classes; in the test split these are out of scope."""
    if split != "test":
        return [row for row in rows if row["label_name"] not in UNSEEN]
    return [row | ({"label_name": OUTSIDE} if row["label_name"] in UNSEEN else {}) for row in rows]


def half_held_out(split: str, rows: Rows) -> Rows:
    """One of the two stands for what is out of scope in training, too; the other stays unseen."""
    kept = [row for row in rows if split == "test" or row["label_name"] != UNSEEN[0]]
    return [row | ({"label_name": OUTSIDE} if row["label_name"] in UNSEEN else {}) for row in kept]


SEVERAL = Small("go_emotions", {"train": 6000, "validation": 1500, "test": 2000}, epochs=4)
QUESTIONS = Small("trec", {"train": 400, "validation": 200}, epochs=6, changed=held_out)
TAUGHT = Small("trec", {"train": 400, "validation": 200}, epochs=6, changed=half_held_out)


def deployed(
    small: Small, folder: Path, flags: tuple[str, ...], epochs: int | None
) -> tuple[Any, Any, Labels]:
    """Logits and labels of the test rows, by the exported model."""
    model = trained(small, folder, "plain", flags, 0, epochs)
    deployment = model.parent / "deployment"
    if not (deployment / "model.onnx").is_file():
        export.main(["--model_path", str(model), "--task", "text_classification"])
    pipeline = Pipeline.create("text_classification", deployment, sequence_length=96)
    options = DataOptions(validation_file=str(folder / "rows" / "test.jsonl"), needs_train=False)
    found = deployed_rows(load_task("text_classification"), pipeline, options)
    pipeline.close()
    return found


def calibration(
    folder: Path, epochs: int | None, sets: Sequence[tuple[Small, tuple[str, ...]]]
) -> tuple[list[list[str]], dict[str, Any]]:
    """Calibration before and after, of one label a row and of several."""
    lines, found = [], {}
    for small, flags in sets:
        logits, truth, labels = deployed(small, folder / small.dataset, flags, epochs)
        before = quality(logits, truth, replace(labels, confidence=AS_IT_IS))
        after = quality(logits, truth, labels)
        temperature = labels.confidence.temperature
        found[small.dataset] = {"temperature": temperature, "before": before, "after": after}
        cells = [f"{each['ece']:.1%} | {each['nll']:.4f}" for each in (before, after)]
        lines.append([small.dataset, f"{temperature:.2f}", *" | ".join(cells).split(" | ")])
    return lines, found


def several(folder: Path, epochs: int | None) -> tuple[list[list[str]], dict[str, Any]]:
    """F1 with the threshold of SparseML for all labels, with the best one for all, and with one for each."""
    logits, truth, labels = deployed(SEVERAL, folder / SEVERAL.dataset, BY_LABEL, epochs)
    scaled = labels.confidence.scaled(logits)
    plain = multi_label_metrics(logits, truth, labels.names, thresholds.DEFAULT)
    half = multi_label_metrics(logits, truth, labels.names, 0.5)
    own = multi_label_metrics(scaled, truth, labels.names, labels.threshold)
    kept = {"0.5 for all": half, "0.3 for all (the default)": plain, "by label, on validation rows": own}
    names = ("f1_macro_average", "f1_micro", "precision_macro_average", "recall_macro_average")
    return [[name, *(f"{each[key]:.1%}" for key in names)] for name, each in kept.items()], {
        "thresholds": thresholds.stated(labels.threshold, labels.names),
        "metrics": {name: {key: each[key] for key in names} for name, each in kept.items()},
    }


def outside(folder: Path, epochs: int | None) -> tuple[list[list[str]], dict[str, Any]]:
    """In-scope accuracy and out-of-scope recall by lowest score, without and with a trained class for the latter."""
    lines, found = [], {}
    for title, small in (("by score alone", QUESTIONS), ("trained class, too", TAUGHT)):
        flags = ("--out_of_scope_label", OUTSIDE, *(("--min_score", "0.5") if small is QUESTIONS else ()))
        logits, truth, labels = deployed(
            small, folder / f"trec-{title.replace(' ', '-').replace(',', '')}", flags, epochs
        )
        for least in LEAST:
            if least == 0 and outside_id(labels) == labels.num_labels:
                continue  # nothing is refused
            confidence = replace(labels.confidence, min_score=least)
            metrics = selective_metrics(logits, truth, replace(labels, confidence=confidence))
            found[f"{title}, {least}"] = metrics
            lines.append([title, f"{least:g}", *(f"{metrics[name]:.1%}" for name in _SHOWN)])
    return lines, found


_SHOWN: Mapping[str, str] = {
    "coverage": "in scope: answered",
    "accuracy_covered": "of these right",
    "in_scope_accuracy": "in-scope accuracy",
    "out_of_scope_recall": "out-of-scope recall",
    "out_of_scope_precision": "precision",
}


PARTS: Mapping[str, Callable[..., tuple[list[list[str]], dict[str, Any]]]] = {
    "one_label": lambda *given: calibration(*given, [(EMOTION, ())]),
    "several_calibrated": lambda *given: calibration(*given, [(SEVERAL, BY_LABEL)]),
    "several": several,
    "out_of_scope": outside,
}
_CALIBRATION = ["data set", "temperature", "ECE before", "NLL before", "ECE after", "NLL after"]
HEADS = {
    "one_label": _CALIBRATION,
    "several_calibrated": _CALIBRATION,
    "several": ["threshold", "macro F1", "micro F1", "macro precision", "macro recall"],
    "out_of_scope": ["refused", "min score", *_SHOWN.values()],
}
SAID = {
    "one_label": "Calibration: expected calibration error (ECE) and negative log-likelihood (NLL) of test rows.",
    "several_calibrated": "The same of several labels, over the decisions on all of them.",
    "several": "Thresholds of several labels: GoEmotions, 28 labels; "
    + ", ".join(f"{count:,} {split}" for split, count in SEVERAL.most.items())
    + " rows.",
    "out_of_scope": (
        "Out of scope: TREC without the classes NUM and LOC (of 400 training rows those that are left), whose test "
        "rows are out of scope; in the lower half, LOC is trained as the class `out_of_scope`, and NUM stays unseen."
    ),
}


def main() -> None:
    """Train what is missing, and keep the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="only these")
    parser.add_argument("--epochs", type=int, help="of each training; records nothing")
    parser.add_argument("--folder", type=Path, default=Path("runs/small"), help="for rows and models")
    parser.add_argument("--name", default="confidence", help="of the results")
    options = parser.parse_args()
    blocks, facts = [], {}
    for name in options.parts:
        lines, facts[name] = PARTS[name](options.folder, options.epochs)
        blocks += [SAID[name], table(HEADS[name], lines)]
    if options.epochs is None:
        keep(options.name, "Honest confidence, of exported int8 models", blocks, facts)


if __name__ == "__main__":
    raise SystemExit(run(main))
