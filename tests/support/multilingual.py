"""Tiny multilingual encoders with a unigram tokenizer of their own, and rows in scripts of many kinds."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from support.tiny import prune

WORDS = {
    "latin": ["lovely", "dreary", "señor", "crème", "großartig", "naïve"],
    "cyrillic": ["хороший", "плохой", "книга", "день"],
    "chinese": ["高兴", "难过", "天气", "电影", "今天"],
    "japanese": ["うれしい", "悲しい", "映画", "タワー"],
    "thai": ["ดีใจ", "เสียใจ", "อากาศ", "หนังสือ"],
    "hebrew": ["שמח", "עצוב", "ספר"],
    "arabic": ["سعيد", "حزين", "كتاب"],
    "hindi": ["खुश", "दुखी", "किताब"],
    "emoji": ["👩‍👩‍👧", "🇫🇷", "❤️", "😀", "👍🏽"],
}
"""Words by script; those of Chinese, Japanese and Thai are written without spaces between them."""

UNSPACED = ("chinese", "japanese", "thai", "emoji")
KINDS = ("xlm-roberta", "multilingual-minilm")


def text(source: random.Random, word: str, script: str) -> str:
    """A text of one script in which a word stands among others."""
    words = source.choices(WORDS[script], k=source.randint(0, 4))
    words.insert(source.randint(0, len(words)), word)
    return ("" if script in UNSPACED else " ").join(words)


def rows(count: int, classes: int, seed: int = 0) -> list[dict[str, str]]:
    """Texts whose label one word says: a word of the script with the class's number."""
    source = random.Random(seed)
    scripts = list(WORDS)
    made = []
    for index in range(count):
        number = index % classes
        script = scripts[number % len(scripts)]
        made.append(
            {"text": text(source, f"{WORDS[script][0]}{number}", script), "label": f"{script}-{number}"}
        )
    return made


def tokenizer() -> Any:
    """XLM-R's kind: unigram pieces behind a space mark, <s> and </s> around a text."""
    from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors, trainers
    from tokenizers.models import Unigram
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    raw = Tokenizer(Unigram())
    raw.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" {2,}", " ")])
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    texts = [row["text"] for row in rows(600, 150)]
    raw.train_from_iterator(
        texts,
        trainers.UnigramTrainer(
            vocab_size=400, special_tokens=[*special, "<mask>"], unk_token="<unk>", show_progress=False
        ),
    )
    ends = [(token, raw.token_to_id(token)) for token in ("<s>", "</s>")]
    raw.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=ends
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=64,
        model_input_names=["input_ids", "attention_mask"],
    )


def encoder(folder: Path, kind: str) -> Path:
    """Save a pruned encoder without a head: XLM-R, or a BERT with XLM-R's tokenizer, as multilingual MiniLM is."""
    import torch
    from transformers import BertConfig, BertModel, XLMRobertaConfig, XLMRobertaModel

    own = tokenizer()
    settings: dict[str, Any] = {
        "vocab_size": len(own),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 66,
        "pad_token_id": own.pad_token_id,
        "initializer_range": 0.2,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = (
            XLMRobertaModel(XLMRobertaConfig(type_vocab_size=1, **settings))
            if kind == "xlm-roberta"
            else BertModel(BertConfig(**settings))
        )
        prune(model)
    model.save_pretrained(folder)
    own.save_pretrained(folder)
    return folder


def recipe(kind: str) -> str:
    """Three epochs, sparse and quantized, for such an encoder."""
    from support.tiny import RECIPE

    return (
        RECIPE.replace("        - bert.pooler\n", "").replace("bert.", "roberta.")
        if kind == "xlm-roberta"
        else RECIPE
    )
