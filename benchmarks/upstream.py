"""Makes the pruned checkpoint that the accuracy benchmark starts from: MiniLM at 80 %, healed on plain text.

Magnitude pruning in one shot breaks an encoder as small as MiniLM, and a few thousand labelled rows do not mend
it. Here the pruned encoder relearns, with its zeros held by the project's own ConstantPruningModifier, to give the
hidden states that the dense one gives for running text (Jiao et al. 2020, TinyBERT, arXiv:1909.10351). No label is
seen, and nothing of the tasks.
"""

from __future__ import annotations

import argparse
import lzma
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from data import MissingDataError, data_folder
from process import DENSE_MODEL, SPARSE_MODEL
from resparse.console import run, say
from resparse.progress import track
from sparseml.modifiers import Clock
from sparseml.recipe import load_plan
from sparseml.session.session import Session
from sparsezoo import local_path

CORPORA = ("wikipedia", "novels")
BATCH, LENGTH = 32, 64

RECIPE = """
training_modifiers:
  - !LearningRateFunctionModifier
    lr_func: cosine
    init_lr: 1.0e-3
    final_lr: 1.0e-5
    start_step: 0
    end_step: {steps}
pruning_modifiers:
  - !ConstantPruningModifier
    params: ["re:encoder.*weight"]
"""


def passages(tokenizer: Any, count: int, seed: int) -> list[list[int]]:
    """Token ids of `count` passages of the corpora, each of half a sequence."""
    lines: list[str] = []
    for name in CORPORA:
        path = data_folder() / "corpora" / f"{name}.txt.xz"
        if not path.is_file():
            raise MissingDataError(
                f"No corpus {path}. Set RESPARSE_DATA to the folder that holds the corpora."
            )
        with lzma.open(path, "rt", encoding="utf-8") as file:
            lines += [line for line in file if len(line) > 40]
    random.Random(seed).shuffle(lines)
    half = (LENGTH - 4) // 2
    half_sequences: list[list[int]] = []
    for start in track(range(0, len(lines), 1000), "tokenizing"):
        for ids in tokenizer(lines[start : start + 1000], add_special_tokens=False, verbose=False)[
            "input_ids"
        ]:
            half_sequences += [ids[at : at + half] for at in range(0, len(ids) - half + 1, half)][:8]
        if len(half_sequences) >= count:
            break
    random.Random(seed + 1).shuffle(half_sequences)
    return half_sequences[:count]


def batches(tokenizer: Any, steps: int, seed: int) -> Iterator[dict[str, Tensor]]:
    """Pairs of passages and single ones by turns, of many lengths: [32, up to 64] tokens and their types."""
    half_sequences = passages(tokenizer, steps * BATCH * 2, seed)
    draw = random.Random(seed + 2)
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    for step in range(steps):
        rows = []
        longest = draw.choice((8, 15, 30, 30))
        for index in range(BATCH):
            at = 2 * (step * BATCH + index)
            first, second = (
                half_sequences[at % len(half_sequences)][:longest],
                half_sequences[(at + 1) % len(half_sequences)][:longest],
            )
            first = [cls, *first, sep]
            second = [*second, sep] if step % 2 else []
            rows.append((first + second, [0] * len(first) + [1] * len(second)))
        ids, types = (torch.tensor([row[part] for row in rows]) for part in (0, 1))
        yield {"input_ids": ids, "token_type_ids": types, "attention_mask": torch.ones_like(ids)}


def distance(student: tuple[Tensor, ...], teacher: tuple[Tensor, ...]) -> Tensor:
    """Mean over layers of the squared difference of hidden states, in shares of the teacher's variance."""
    layers = zip(student[1:], teacher[1:], strict=True)
    return torch.stack([F.mse_loss(s.float(), t.float()) / t.float().var() for s, t in layers]).mean()


def heal(folder: Path, steps: int, minutes: float, seed: int) -> float:
    """Train, and save the encoder; returns the last hundred steps' mean distance."""
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.manual_seed(seed)
    teacher = AutoModel.from_pretrained(local_path(DENSE_MODEL)).eval()
    student = AutoModel.from_pretrained(
        local_path(SPARSE_MODEL)
    ).eval()  # no dropout: regression to fixed targets
    tokenizer = AutoTokenizer.from_pretrained(local_path(SPARSE_MODEL))
    learning = [parameter for name, parameter in student.named_parameters() if name.startswith("encoder")]
    for parameter in set(student.parameters()) - set(learning):
        parameter.requires_grad_(False)
    optimizer = torch.optim.AdamW(learning, lr=1e-3, weight_decay=0.0)
    session = Session(load_plan(RECIPE.format(steps=steps)), student)
    clock = Clock(steps, steps)
    session.begin(clock, 0, optimizer)
    recent: list[float] = []
    began = time.monotonic()
    for step, batch in enumerate(batches(tokenizer, steps, seed)):
        # A machine slower than planned cools down earlier rather than stopping hot.
        done = max(step / steps, (time.monotonic() - began) / (60 * minutes))
        if done >= 1:
            break
        session.before_step(step)
        for group in optimizer.param_groups:
            group["lr"] = session.schedule.rate(int(done * steps), clock)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                targets = teacher(**batch, output_hidden_states=True).hidden_states
            loss = distance(student(**batch, output_hidden_states=True).hidden_states, targets)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        session.after_step()
        recent = [*recent[-99:], loss.item()]
        if step % 50 == 0:
            say(f"step {step}, distance {sum(recent) / len(recent):.4f}, {time.monotonic() - began:.0f} s")
    session.finish()
    student.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return sum(recent) / len(recent)


def main() -> None:
    parser = argparse.ArgumentParser(description="Heal the 80 %-pruned MiniLM on plain text.")
    parser.add_argument("--folder", type=Path, default=Path("runs/upstream"))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument(
        "--minutes", type=float, default=30, help="cool down by then, however many steps were made"
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    left = heal(arguments.folder, arguments.steps, arguments.minutes, arguments.seed)
    say(f"{arguments.folder}: {left:.4f} of the hidden states' variance is left unexplained")


if __name__ == "__main__":
    raise SystemExit(run(main))
