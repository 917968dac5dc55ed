"""Masked language modelling through the whole command, with a head and without, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from resparse.errors import UserError
from sparseml import cli
from sparseml.session.models import load_tokenizer, resolve
from sparseml.tasks.masked_language_modeling import CorpusArguments, encoded_corpus, has_head, window_lengths
from sparseml.transformers import export, masked_language_modeling
from support import corpora, tiny
from support.corpora import RECIPE

pytestmark = pytest.mark.usefixtures("one_thread")

LOGITS = """
  - !DistillationModifier
      hardness: 0.5
      temperature: 2.0
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text file of 500 documents, some 12,000 tokens, of one word each, more or less."""
    return corpora.write(tmp_path_factory.mktemp("corpus") / "corpus.txt", corpora.documents(500))


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSEZOO_HOME", str(tmp_path_factory.mktemp("zoo")))
        yield


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dense BERT without a head."""
    return tiny.bert(tmp_path_factory.mktemp("models") / "encoder", sparsity=0.0)


@pytest.fixture(scope="module")
def with_head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dense BERT with a masked language modelling head."""
    from transformers import BertConfig, BertForMaskedLM

    folder = tiny.bert(tmp_path_factory.mktemp("models") / "with-head", sparsity=0.0)
    torch.manual_seed(0)
    BertForMaskedLM(BertConfig.from_pretrained(folder)).save_pretrained(folder)
    return folder


def train(model: Path, corpus: Path, output: Path, **more: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "model_name_or_path": model,
        "train_file": corpus,
        "output_dir": output,
        "do_train": True,
        "do_eval": True,
        "max_seq_length": 32,
        "per_device_train_batch_size": 8,
        "learning_rate": 3e-3,
        "validation_split_percentage": 20,
        "save_strategy": "no",
        **more,
    }
    return masked_language_modeling.main(
        **{name: str(value) if isinstance(value, Path) else value for name, value in arguments.items()}
    )


def scored(model: Path, corpus: Path, output: Path, **more: Any) -> dict[str, Any]:
    metrics: dict[str, Any] = train(model, corpus, output, do_train=False, **more)["metrics"]
    return metrics


@pytest.mark.parametrize("rows", [{}, {"line_by_line": True, "whole_word_mask": True}])
def test_a_head_learns_to_predict_masked_tokens(
    with_head: Path, corpus: Path, tmp_path: Path, rows: dict[str, Any]
) -> None:
    before = scored(with_head, corpus, tmp_path / "before", **rows)
    report = train(with_head, corpus, tmp_path / "after", num_train_epochs=12, **rows)
    after = report["metrics"]
    assert after["eval_masked_accuracy"] > before["eval_masked_accuracy"] + 0.1
    assert after["eval_loss"] < before["eval_loss"]
    assert after["eval_perplexity"] == pytest.approx(torch.tensor(after["eval_loss"]).exp().item())
    assert report["data"]["rows"] == {"train": 500, "validation": 500}
    again = scored(tmp_path / "after", corpus, tmp_path / "again", **rows)
    assert again["eval_loss"] == pytest.approx(after["eval_loss"], rel=1e-5)


def test_an_encoder_without_a_head_learns_from_its_own_copy(
    encoder: Path, corpus: Path, rows_folder: Path, tmp_path: Path
) -> None:
    """Pruned at once its states are far from the teacher's; trained they are nearer. The result starts a classifier."""
    frozen = train(
        encoder, corpus, tmp_path / "frozen", recipe=RECIPE, distill_teacher="self", learning_rate=0.0
    )["metrics"]
    output = tmp_path / "pruned"
    report = train(encoder, corpus, output, recipe=RECIPE, distill_teacher="self")
    assert 0 < report["metrics"]["eval_distance"] < 0.7 * frozen["eval_distance"]
    assert report["totals"]["prunable_sparsity"] > 0.5
    config = json.loads((output / "config.json").read_text())
    assert config["architectures"] == ["BertModel"] and not has_head_of(output)
    assert config["hidden_dropout_prob"] == 0.1  # off for this training alone
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (output, encoder))
    assert torch.equal(ours["pooler.dense.weight"], theirs["pooler.dense.weight"])
    classifier = tiny.train(
        output,
        rows_folder,
        tmp_path / "classifier",
        recipe_args="num_epochs=1,qat_start_epoch=0,observer_epoch=1",
    )
    assert classifier["totals"]["prunable_sparsity"] > 0.5


def test_padding_is_no_part_of_the_distance(encoder: Path, corpus: Path, tmp_path: Path) -> None:
    """Against the hidden states of each document alone, where nothing is padded."""
    texts = corpora.documents(12, seed=1, words=(2, 28))
    report = train(
        encoder,
        corpus,
        tmp_path / "out",
        validation_file=corpora.write(tmp_path / "held.txt", texts),
        recipe=RECIPE,
        distill_teacher="self",
        learning_rate=0.0,
        line_by_line=True,
        per_device_train_batch_size=16,
        max_train_samples=100,
    )
    ours, theirs = (states_of(folder, texts) for folder in (tmp_path / "out", encoder))
    layers = (ours - theirs).square().mean((1, 2)) / theirs.square().mean((1, 2))
    assert report["metrics"]["eval_distance"] == pytest.approx(float(layers.mean()), rel=1e-4)
    assert report["metrics"]["eval_last_layer_distance"] == pytest.approx(float(layers[-1]), rel=1e-4)


@torch.no_grad()
def states_of(folder: Path, texts: list[str]) -> torch.Tensor:
    """The hidden states of all tokens behind each layer, [layers, tokens, width], each text alone."""
    tokenizer, model = load_tokenizer(resolve(str(folder))), AutoModel.from_pretrained(folder).eval()
    alone = [
        model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states[1:]
        for text in texts
    ]
    return torch.cat([torch.cat(states) for states in alone], 1)


def has_head_of(folder: Path) -> bool:
    from transformers import AutoConfig

    return has_head(AutoConfig.from_pretrained(folder))


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "headless": (RECIPE, {}),
    "head": (RECIPE + LOGITS, {}),
    "documents": (RECIPE + LOGITS, {"line_by_line": True}),
    "accumulation": (RECIPE, {"gradient_accumulation_steps": 3, "per_device_train_batch_size": 4}),
    "workers": (RECIPE, {"dataloader_num_workers": 1}),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name == "workers" else []) for name in CASES]
)
def test_a_resumed_run_ends_with_the_same_bits(
    encoder: Path, with_head: Path, corpus: Path, tmp_path: Path, name: str
) -> None:
    recipe, more = CASES[name]
    model = with_head if "LOGITS" in recipe or name in ("head", "documents") else encoder
    settings: dict[str, Any] = {"recipe": recipe, "distill_teacher": "self", "do_eval": False, **more}
    train(model, corpus, tmp_path / "whole", save_strategy="steps", save_steps=7, **settings)
    checkpoints = sorted(
        (tmp_path / "whole").glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2])
    )
    assert len(checkpoints) > 5
    for checkpoint in (checkpoints[0], checkpoints[len(checkpoints) // 2 + 1]):
        resumed = tmp_path / f"from-{checkpoint.name}"
        train(model, corpus, resumed, resume_from_checkpoint=checkpoint, **settings)
        for file in ("model.safetensors", "modifiers.safetensors"):
            ours, theirs = load_file(resumed / file), load_file(tmp_path / "whole" / file)
            assert [key for key in theirs if not torch.equal(ours[key], theirs[key])] == []


@pytest.mark.parametrize("rows", [{}, {"line_by_line": True}])
def test_an_epoch_is_the_corpus_once(
    encoder: Path, corpus: Path, tmp_path: Path, rows: dict[str, Any]
) -> None:
    train(encoder, corpus, tmp_path / "out", recipe=RECIPE, distill_teacher="self", **rows)
    steps = json.loads((tmp_path / "out" / "trainer_state.json").read_text())["global_step"]
    tokens = encoded_corpus(
        CorpusArguments(train_file=str(corpus), validation_split_percentage=20, **rows),
        load_tokenizer(resolve(str(encoder))),
    )
    assert steps == pytest.approx(2 * tokens / (8 * 32), rel=0.12)


def test_a_teacher_from_a_folder_and_a_validation_file(encoder: Path, corpus: Path, tmp_path: Path) -> None:
    held = corpora.write(tmp_path / "held.txt", corpora.documents(100, seed=1))
    more: dict[str, Any] = {"recipe": RECIPE, "max_train_samples": 200, "max_eval_samples": 50}
    report = train(encoder, corpus, tmp_path / "out", distill_teacher=encoder, validation_file=held, **more)
    assert report["data"]["rows"] == {"train": 200, "validation": 50}
    assert report["metrics"]["eval_distance"] > 0


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({}, "has no head for this task.*--distill_teacher"),
        ({"recipe": RECIPE}, "has no head for this task"),
        ({"recipe": RECIPE, "distill_teacher": "disable"}, "has no head for this task"),
        ({"do_predict": True, "test_file": "corpus.txt"}, "--test_file is labelled|--do_predict labels rows"),
        ({"window_lengths": "12,32"}, "--window_lengths 12,32"),
        ({"max_train_samples": 1, "recipe": RECIPE, "distill_teacher": "self"}, "too few for windows"),
        ({"num_export_samples": 3}, "--num_export_samples"),
        ({"input_column_names": "body", "train_file": "rows.jsonl"}, "no column 'body'"),
        ({"train_file": "corpus.docx"}, "--train_file corpus.docx"),
    ],
)
def test_what_is_refused(
    encoder: Path,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: dict[str, Any],
    text: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"text": "a film"}\n')
    (tmp_path / "corpus.txt").write_text("a film\n")
    with pytest.raises(UserError, match=text):
        train(encoder, corpus, tmp_path / "out", **more)
    assert not (tmp_path / "out").exists()


def test_teachers_that_do_not_suit(encoder: Path, with_head: Path, corpus: Path, tmp_path: Path) -> None:
    other = tiny.bert(tmp_path / "other", words=[*tiny.WORDS, "more"], sparsity=0.0)
    with pytest.raises(UserError, match="its vocabulary"):
        train(encoder, corpus, tmp_path / "out", recipe=RECIPE, distill_teacher=other)
    with pytest.raises(UserError, match="The teacher has no masked language modelling head"):
        train(with_head, corpus, tmp_path / "out", recipe=RECIPE + LOGITS, distill_teacher=encoder)


def test_its_models_are_not_exported(with_head: Path) -> None:
    with pytest.raises(UserError, match="is a model of plain text, a start for other trainings"):
        export.main(["--model_path", str(with_head)])


def test_the_front_door_names_the_task(
    with_head: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "--task",
        "mlm",
        "--model_name_or_path",
        str(with_head),
        "--train_file",
        str(corpus),
        "--do_eval",
    ]
    assert cli.main(["train", *words, "--output_dir", str(tmp_path / "out"), "--max_seq_length", "32"]) == 0
    assert "eval masked accuracy" in capsys.readouterr().out


def test_lengths_of_windows() -> None:
    assert window_lengths(None, 128) == [128, 64, 32, 16] and window_lengths(None, 100) == [100, 50, 25]
    assert window_lengths("32, 64", 64) == [32, 64]


@pytest.mark.parametrize("worlds", [1, 2])
def test_processes_share_the_batches_of_every_epoch(worlds: int) -> None:
    """As Accelerate gives each process its own: together every batch once, and further ones in the next epoch."""
    from accelerate.data_loader import prepare_data_loader
    from torch.utils.data import DataLoader

    from sparseml.data.windows import Windows
    from sparseml.session.sampling import EpochSampler

    made = Windows(
        corpora.counted(1, 5000), tiny.tokenizer(), [(0, 5000)], max_length=32, lengths=[32], rows=4
    )
    count = len(made) - len(made) % worlds
    seen: list[list[int]] = []
    for epoch in range(2):
        firsts: list[int] = []
        for rank in range(worlds):
            loader = DataLoader(
                made, batch_size=1, sampler=EpochSampler(len(made)), collate_fn=lambda items: items[0]
            )
            own = prepare_data_loader(loader, num_processes=worlds, process_index=rank, put_on_device=False)
            own.set_epoch(epoch)
            firsts += [int(batch["input_ids"][0, 1]) for batch in own]
        seen.append(firsts)
    for epoch, firsts in enumerate(seen):
        wanted = [int(made[epoch * len(made) + index]["input_ids"][0, 1]) for index in range(len(made))]
        assert set(wanted) == set(firsts) and len(firsts) - len(wanted) == (-len(made)) % worlds
    assert count and seen[0] != seen[1]
