"""What the tutorial takes from the Hugging Face Hub, under the same ids and in the same form, but tiny and generated.

As on the Hub: the models of 2022 hold pickled weights and the tokenizer's old files; old names of datasets lead to
where these live now; sick is a script that nobody runs any more, beside the Parquet files that the Hub made of it.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support import tiny
from support.hub import LoopbackHub
from support.hub_data import convert, parquet, repository

ENTAILMENT = ("entailment", "neutral", "contradiction")
DUPLICATE = ("not_duplicate", "duplicate")
EMOTIONS = ("anger", "joy", "optimism", "sadness")
REVIEWS = ("neg", "pos")
TEACHERS_EMOTIONS = ("joy", "optimism", "anger", "sadness")
"""The order in which cardiffnlp/twitter-roberta-base-emotion has them."""

START = "neuralmagic/oBERT-12-upstream-pruned-unstructured-90-v2"
DENSE = "google-bert/bert-base-uncased"
EMOTION_TEACHER = "cardiffnlp/twitter-roberta-base-emotion"
TEACHERS = {"neuralmagic/oBERT-teacher-mnli": ENTAILMENT, "neuralmagic/oBERT-teacher-qqp": DUPLICATE}

MOVED = {
    "glue": "nyu-mll/glue",
    "tweet_eval": "cardiffnlp/tweet_eval",
    "sick": "RobZamp/sick",
    "rotten_tomatoes": "cornell-movie-review-data/rotten_tomatoes",
}

SPARSITY = 0.9
ROWS = {"train": 96, "validation": 48, "test": 16}
_PLAIN = (
    *("the", "a", "is", "was", "with", "and", "in", "on", "of", "this", "that"),
    *("man", "woman", "dog", "park", "guitar", "street", "plays", "runs", "walks"),
)
_CLUES = ("furious", "delighted", "hopeful", "gloomy")
_SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "initializer_range": 0.5,
}


def fill(hub: LoopbackHub, scratch: Path) -> None:
    """Put all repositories of the tutorial into a hub.

    Args:
        scratch: a folder for files on their way.
    """
    for old, new in MOVED.items():
        hub.add(old, {}, "datasets", renamed_to=new)
    _add_datasets(hub)
    hub.add(START, _bert(scratch / "start", "BertForMaskedLM", pickled=True, sparsity=SPARSITY))
    hub.add(DENSE, _bert(scratch / "dense", "BertForMaskedLM", pickled=False, seed=1))
    for seed, (repo, names) in enumerate(TEACHERS.items(), 2):
        files = _bert(
            scratch / repo, "BertForSequenceClassification", pickled=True, seed=seed, **_labels(names)
        )
        hub.add(repo, files)
    hub.add(EMOTION_TEACHER, _roberta(scratch / "roberta"))


def start_weights(hub: LoopbackHub) -> dict[str, Any]:
    """The tensors of the pruned model that the trainings start from, by name."""
    import torch

    (files,) = hub.repos["models", START].revisions.values()
    return dict(torch.load(io.BytesIO(files["pytorch_model.bin"]), weights_only=True))


# Datasets.


def sentences(count: int, names: Sequence[str], seed: int) -> tuple[list[str], list[int]]:
    """Sentences that each hold a word which gives their class away, and the classes."""
    source = random.Random(seed)
    labels = [row % len(names) for row in range(count)]
    texts = []
    for label in labels:
        words = source.choices(_PLAIN, k=source.randint(3, 14))
        words.insert(source.randrange(len(words)), _CLUES[label])
        texts.append(" ".join(words))
    return texts, labels


def _single(split: str, names: Sequence[str]) -> bytes:
    texts, labels = sentences(ROWS[split], names, seed=len(split))
    return parquet({"text": texts, "label": labels}, names)


def pairs(split: str, columns: tuple[str, str], names: Sequence[str], secret: bool = False) -> dict[str, Any]:
    kind = split.partition("_")[0]
    first, labels = sentences(ROWS[kind], names, seed=len(split))
    second, _ = sentences(ROWS[kind], names, seed=100 + len(split))
    return {columns[0]: first, columns[1]: second, "label": [-1] * len(labels) if secret else labels}


def _glue(splits: Sequence[str], columns: tuple[str, str], names: Sequence[str]) -> dict[str, bytes]:
    """A task of GLUE: the labels of its test rows are kept secret (-1)."""
    made = {}
    for split in splits:
        rows = pairs(split, columns, names, secret=split.startswith("test"))
        made[split] = parquet({**rows, "idx": list(range(len(rows["label"])))}, names)
    return made


def _add_datasets(hub: LoopbackHub) -> None:
    both = [f"{kind}_{half}" for kind in ("validation", "test") for half in ("matched", "mismatched")]
    glue = {
        "mnli": _glue(["train", *both], ("premise", "hypothesis"), ENTAILMENT),
        "qqp": _glue(tuple(ROWS), ("question1", "question2"), DUPLICATE),
    }
    hub.add(MOVED["glue"], repository(glue), "datasets")
    tweets = {
        "emoji": {split: _single(split, ("heart", "sun")) for split in ROWS},
        "emotion": {split: _single(split, EMOTIONS) for split in ROWS},
    }
    hub.add(MOVED["tweet_eval"], repository(tweets), "datasets")
    reviews = {"default": {split: _single(split, REVIEWS) for split in ROWS}}
    hub.add(MOVED["rotten_tomatoes"], repository(reviews), "datasets")
    script = {"README.md": b"# sick\n", "sick.py": b"raise SystemExit('a loading script was run')\n"}
    hub.add(MOVED["sick"], script, "datasets")
    convert(hub, MOVED["sick"], {f"default/{split}": _sick(split) for split in ROWS})


def _sick(split: str) -> bytes:
    """SICK has more texts than the two that are compared; only `label` says which class."""
    rows = pairs(split, ("sentence_A", "sentence_B"), ENTAILMENT)
    count = len(rows["label"])
    first = {"id": [str(row) for row in range(count)]}
    others = {
        "relatedness_score": [1.0 + row % 5 for row in range(count)],
        "entailment_AB": [f"A_{ENTAILMENT[label]}_B" for label in rows["label"]],
        "entailment_BA": ["B_neutral_A"] * count,
        "sentence_A_original": rows["sentence_A"],
        "sentence_B_original": rows["sentence_B"],
        "sentence_A_dataset": ["FLICKR"] * count,
        "sentence_B_dataset": ["FLICKR"] * count,
    }
    return parquet({**first, **rows, **others}, ENTAILMENT)


# Models.


def _labels(names: Sequence[str]) -> dict[str, Any]:
    return {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}


def _bert(
    folder: Path, architecture: str, *, pickled: bool, sparsity: float = 0.0, seed: int = 0, **config: Any
) -> dict[str, bytes]:
    """The files of a BERT with the vocabulary of the sentences above."""
    import torch
    import transformers

    words = [*tiny.SPECIAL, *_PLAIN, *_CLUES, *"abcdefghijklmnopqrstuvwxyz"]
    settings = transformers.BertConfig(vocab_size=len(words), max_position_embeddings=512, **_SHAPE, **config)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(transformers, architecture)(settings)
        if sparsity:
            tiny.prune(model, sparsity)
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    settings_of_tokenizer = {
        "do_lower_case": True,
        "model_max_length": 512,
        "tokenizer_class": "BertTokenizer",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings_of_tokenizer), encoding="utf-8")
    return _saved(model, folder, pickled)


def _roberta(folder: Path) -> dict[str, bytes]:
    """The files of a RoBERTa that knows the emotions, in an order of its own, with a byte-level BPE tokenizer."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import AutoTokenizer, RobertaConfig, RobertaForSequenceClassification

    texts, labels = sentences(160, EMOTIONS, seed=9)
    pieces = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pieces.train_from_iterator(texts, vocab_size=400, special_tokens=special, show_progress=False)
    folder.mkdir(parents=True)
    pieces.save_model(str(folder))
    config = RobertaConfig(
        vocab_size=pieces.get_vocab_size(),
        max_position_embeddings=514,
        type_vocab_size=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **{**_SHAPE, "initializer_range": 0.05},
        **_labels(TEACHERS_EMOTIONS),
    )
    config.save_pretrained(folder)
    encoded = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    wanted = torch.tensor([TEACHERS_EMOTIONS.index(EMOTIONS[label]) for label in labels])
    with torch.random.fork_rng():
        torch.manual_seed(9)
        model = RobertaForSequenceClassification(config)
        optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
        for _ in range(60):
            optimizer.zero_grad()
            loss = model(**encoded, labels=wanted).loss
            loss.backward()
            optimizer.step()
    assert loss.item() < 0.1, "this teacher is to know its classes"
    return _saved(model.eval(), folder, pickled=True)


def _saved(model: Any, folder: Path, pickled: bool) -> dict[str, bytes]:
    """All files of a model's folder by name, its weights and configuration among them."""
    import torch

    model.save_pretrained(folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    if pickled:
        del files["model.safetensors"]
        weights = io.BytesIO()
        torch.save(model.state_dict(), weights)
        files["pytorch_model.bin"] = weights.getvalue()
    return files
