"""What `kill_anywhere.py` kills: a training, an export, predictions, a download and the packing of a model."""

from __future__ import annotations

import json
import random
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from killing import Work
from support import tiny

KEPT: Final = 2
"""`--save_total_limit` of the training."""

# Pruned in the first half, quantized in the last third; distilled all along.
RECIPE: Final = """\
training_modifiers:
  - !EpochRangeModifier {start_epoch: 0.0, end_epoch: 3.0}
  - !LearningRateFunctionModifier
      {start_epoch: 0.0, end_epoch: 3.0, lr_func: linear, init_lr: 2e-3, final_lr: 1e-5}
pruning_modifiers:
  - !GMPruningModifier
      {params: __ALL_PRUNABLE__, init_sparsity: 0.1, final_sparsity: 0.8,
       start_epoch: 0.0, end_epoch: 1.5, update_frequency: 0.3}
quantization_modifiers:
  - !QuantizationModifier
      start_epoch: 2.0
      disable_quantization_observer_epoch: 2.5
      submodules: [bert.embeddings, bert.encoder, bert.pooler, classifier]
distillation_modifiers:
  - !DistillationModifier {hardness: 0.6, temperature: 3.0}
  - !PerLayerDistillationModifier {}
"""


class BrokenError(Exception):
    """Something was lost, half-written, or is not what the undisturbed run makes."""


@dataclass
class Subject:
    """Some work that may be killed, and be begun again.

    Attributes:
        title: in the table.
        folder: what it writes lies below.
        works: what runs, each in a process of its own, at once.
        after_kill: raises BrokenError where what lies in `folder` would be taken for whole, and is not.
        result: what an undisturbed run leaves, to be compared with what a killed one leaves in the end.
    """

    title: str
    folder: Path
    works: tuple[Work, ...]
    after_kill: Callable[[], None]
    result: Callable[[], Mapping[str, Any]]

    def clear(self) -> None:
        """Begin anew."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)


@dataclass(frozen=True)
class Place:
    """Models and rows that all subjects use, below a folder."""

    root: Path
    start: Path = field(init=False)
    teacher: Path = field(init=False)
    rows: Path = field(init=False)

    def __post_init__(self) -> None:
        names = ["negative", "positive"]
        object.__setattr__(self, "start", tiny.bert(self.root / "start", names=names, sparsity=0.0))
        object.__setattr__(
            self, "teacher", tiny.bert(self.root / "teacher", names=names, sparsity=0.0, seed=1)
        )
        object.__setattr__(self, "rows", self.root / "rows")
        for name, count in (("train", 48), ("validation", 16), ("test", 200)):
            tiny.write(self.rows / f"{name}.csv", tiny.rows(count))
        (self.root / "recipe.yaml").write_text(RECIPE)


def command(main: Callable[[list[str]], Any], words: list[str]) -> Work:
    """A command of ours, its errors printed as users see them."""
    from resparse.console import run

    def work() -> int:
        def quietly() -> int:
            found = main(words)
            return found if isinstance(found, int) else 0

        return run(quietly)

    return work


def training(place: Place, folder: Path, title: str = "training") -> Subject:
    """The whole training command."""
    from sparseml.transformers import text_classification

    flags = {
        "model_name_or_path": place.start,
        "distill_teacher": place.teacher,
        "recipe": place.root / "recipe.yaml",
        **{f"{split}_file": place.rows / f"{split}.csv" for split in ("train", "validation", "test")},
        "output_dir": folder / "out",
        "max_seq_length": 32,
        "per_device_train_batch_size": 8,
        "save_strategy": "steps",
        "save_steps": 3,
        "save_total_limit": KEPT,
    }
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    work = command(text_classification.main, [*words, "--do_train", "--do_eval", "--do_predict"])

    def result() -> dict[str, Any]:
        out = folder / "out"
        report = json.loads((out / "report.json").read_text())
        predicted = (out / "predict_results.txt").read_text()
        # Of the metrics those that say nothing of time.
        scores = {name: report["metrics"][name] for name in ("eval_accuracy", "predict_accuracy")}
        return {**tiny.bits(out), "scores": scores, "predictions": predicted}

    return Subject(title, folder, (work,), lambda: _check_checkpoints(folder / "out"), result)


def _check_checkpoints(out: Path) -> None:
    """No more checkpoints than allowed, and those that a run would go on from are whole."""
    import torch
    from safetensors.torch import load_file

    from sparseml.session.checkpoint import CheckpointError, refuse_unfinished

    folders = [path for path in out.glob("*checkpoint-*") if path.is_dir()]
    if len(folders) > KEPT + 1:
        raise BrokenError(f"{len(folders)} checkpoints: {sorted(path.name for path in folders)}")
    for folder in folders:
        try:
            refuse_unfinished(folder)
        except CheckpointError:
            continue
        for path in folder.iterdir():
            try:
                if path.suffix == ".safetensors":
                    load_file(path)
                elif path.suffix in (".pt", ".pth"):
                    torch.load(path, weights_only=False)
                elif path.suffix == ".json":
                    json.loads(path.read_text())
            except Exception as error:
                raise BrokenError(f"{path} would be taken for whole: {error}") from error
        missing = {"model.safetensors", "modifiers.safetensors", "recipe.yaml", "optimizer.pt"} - {
            path.name for path in folder.iterdir()
        }
        if missing:
            raise BrokenError(f"{folder} would be taken for whole, and has no {missing}")


def export(trained: Path, folder: Path) -> Subject:
    """The export of a trained model."""
    from sparseml.transformers import export as exporting

    words = ["--model_path", str(trained), "--target_path", str(folder / "target")]
    deployment = folder / "target" / "deployment"

    def result() -> dict[str, Any]:
        found = tiny.contents(deployment)
        found.pop("report.json", None)  # has the time in it
        return found

    whole: dict[str, Any] = {}

    def after_kill() -> None:
        # The model comes last: with it the folder is complete.
        if (deployment / "model.onnx").exists():
            if not whole:
                raise BrokenError("killed before the undisturbed run had finished")
            if result() != whole:
                raise BrokenError(f"{deployment} has a model, and is not whole")

    def remembered() -> dict[str, Any]:
        found = result()
        whole.update(found)
        return found

    return Subject("export", folder, (command(exporting.main, words),), after_kill, remembered)


def predictions(place: Place, deployment: Path, folder: Path) -> Subject:
    """Labels for a file."""
    from deepsparse import predict

    output = folder / "labelled.csv"
    words = [str(deployment), "--input", str(place.rows / "test.csv"), "--output", str(output)]

    def after_kill() -> None:
        if output.exists():
            count = len(output.read_text().splitlines())
            if count != 201:
                raise BrokenError(f"{output} has {count} lines")

    return Subject(
        "predict",
        folder,
        (command(predict.main, words),),
        after_kill,
        lambda: {"labelled": output.read_text(), "others": sorted(path.name for path in folder.iterdir())},
    )


def packing(deployment: Path, folder: Path, answers: Path | None = None) -> Subject:
    """Two processes that load a model whose packed form is not in the cache yet, and write what it answers."""
    import numpy as np

    cache, answers = folder / "cache", answers or folder / "answers"

    def work(number: int) -> Work:
        def load() -> int:
            import os

            os.environ["DEEPSPARSE_CACHE"] = str(cache)
            from deepsparse import Engine

            engine = Engine(str(deployment / "model.onnx"), num_cores=1, engine_type="native")
            ids = np.arange(1, 9, dtype=np.int64)[None] % 20
            feed = {
                name: np.ones_like(ids) if "mask" in name else ids * (name == "input_ids")
                for name in engine.input_names
            }
            answers.mkdir(exist_ok=True)
            np.save(answers / f"{number}.npy", engine.run(feed)[0])
            return 0

        return load

    def result() -> dict[str, Any]:
        return {path.name: path.read_bytes() for path in answers.glob("?.npy")} | {
            "packed": sorted(path.suffix for path in cache.iterdir() if not path.name.startswith("."))
        }

    return Subject("packing, two at once", folder, (work(0), work(1)), lambda: None, result)


def download(folder: Path, hub: Any, locks: bool) -> Subject:
    """Two processes that fetch the same model from a Hub on loopback."""
    files = {"config.json": b'{"model_type": "bert"}', "model.safetensors": bytes(range(250)) * 60_000}
    name = "someone/model"
    hub.add(name, files)

    def work() -> int:
        import os

        os.environ |= hub.environment(folder)
        if not locks:
            import fcntl

            fcntl.flock = lambda *_: None  # type: ignore[assignment]
        from sparsezoo import local_path

        local_path(name)
        return 0

    def found() -> dict[str, bytes]:
        return {
            path.name: path.read_bytes()
            for path in folder.rglob("snapshots/*/*")
            if not path.name.startswith(".")
        }

    def after_kill() -> None:
        for path, content in found().items():
            if content != files[path]:
                raise BrokenError(f"{path} is in its place, and has {len(content):,} bytes")

    title = "download, two at once" + ("" if locks else ", locks without effect")
    return Subject(title, folder, (work, work), after_kill, found)


@contextmanager
def jumping_clock(seed: int) -> Any:
    """`time.time` jumps by up to a day, forwards and backwards, at every call."""
    chance, usual = random.Random(seed), time.time
    time.time = lambda: usual() + chance.uniform(-86_400, 86_400)
    try:
        yield
    finally:
        time.time = usual


def under_a_jumping_clock(subject: Subject, seed: int) -> Subject:
    """The same, with a clock that cannot be relied upon."""

    def jumping(work: Work) -> Work:
        def run() -> int | None:
            with jumping_clock(seed):
                return work()

        return run

    works = tuple(jumping(work) for work in subject.works)
    return Subject(f"{subject.title}, clock jumps", subject.folder, works, subject.after_kill, subject.result)
