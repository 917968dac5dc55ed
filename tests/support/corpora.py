"""Made-up plain text, tokenizers of several styles, and token files, for upstream training."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np

from sparseml.data.token_file import TokenFile
from support import tiny

RECIPE = """
epochs: 2.0
training_modifiers:
  - !EpochRangeModifier
      end_epoch: eval(epochs)
pruning_modifiers:
  - !GlobalMagnitudePruningModifier
      params: ["re:.*layer[.]\\\\d+[.].*weight$"]
      init_sparsity: 0.3
      final_sparsity: 0.6
      start_epoch: 0.0
      end_epoch: eval(epochs / 2)
      update_frequency: 0.1
distillation_modifiers:
  - !PerLayerDistillationModifier
      gain: 1.0
"""
"""Prunes layers over the first half, taught their hidden states."""


def documents(count: int, seed: int = 0, words: tuple[int, int] = (4, 40)) -> list[str]:
    """Texts of one word each, over and over but for every fifth: a masked one can be told from the others."""
    source = random.Random(seed)
    made = []
    for _ in range(count):
        word = source.choice(tiny.WORDS)
        texts = [
            word if source.random() < 0.8 else source.choice(tiny.WORDS)
            for _ in range(source.randint(*words))
        ]
        made.append(" ".join(texts))
    return made


def write(path: Path, texts: list[str]) -> Path:
    """Documents with empty lines between."""
    path.write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    return path


def roberta_tokenizer() -> Any:
    """The tiny vocabulary in RoBERTa's style: <s> a </s></s> b </s>, no token types."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import RobertaProcessing
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocabulary = {word: index for index, word in enumerate([*special, *tiny.WORDS])}
    raw = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = Whitespace()
    raw.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        unk_token="<unk>",
        pad_token="<pad>",
        cls_token="<s>",
        bos_token="<s>",
        sep_token="</s>",
        eos_token="</s>",
        mask_token="<mask>",
        model_max_length=64,
        model_input_names=["input_ids", "attention_mask"],
    )


def counted(documents: int, length: int, first: int = 100) -> TokenFile:
    """A token file whose every token is another one, counted up from `first`; separators are tokens like others."""
    tokens = np.arange(first, first + documents * (length + 1), dtype=np.uint32)
    return TokenFile(tokens, np.arange(1, documents + 1, dtype=np.int64) * (length + 1))
