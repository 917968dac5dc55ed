"""`sparseml sparsify`: prunes an encoder on plain text or adapts a sparse one; chooses what is not given."""

from __future__ import annotations

import json
import math
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from resparse.console import say
from resparse.errors import UserError
from resparse.files import write_json
from sparseml.processes import started_as_several

if TYPE_CHECKING:
    from sparseml.session.models import Source

HELP: Final = """\
usage: sparseml sparsify MODEL --corpus FILES [--sparsity 0.8] [--minutes 60] [--output_dir FOLDER]

Prunes an encoder on plain text while a frozen copy of it teaches it, so that the result is a start for any task:
--model_name_or_path FOLDER. A MODEL that is sparse already keeps its zeros, and is adapted to the texts.

  MODEL             a folder, a zoo: stub or a Hub id
  --corpus          text files (.txt, .gz, .xz, .jsonl, .csv, ...), by commas, a folder, or a Hub dataset
  --sparsity        share of zeros among the weights of the Transformer layers [0.8]
  --mask_type       unstructured, block4, or N:M such as 2:4 [unstructured]
  --minutes         how long to train, on this machine [60]
  --tokens          in place of --minutes: how many tokens to train on
  --teacher         the dense model to learn from [a copy of MODEL; for a sparse one of the zoo, its dense original]
  --output_dir      the folder for the model [MODEL's name, with the sparsity]
  --recipe          another recipe than the zoo's
  --recipe_args     values for its variables: JSON, or name=value,...

All arguments of sparseml.transformers.masked_language_modeling may follow. A stopped run goes on where it was when the
same command is given again."""

CHOICES: Final = "sparsify.json"
"""In the output folder: what was chosen, so that a stopped run goes on with the same."""

_LENGTH: Final = 128
_TOKENS_A_STEP: Final = {"cuda": 16_384, "cpu": 4_096}
_WARM_UP, _TIMED = 2, 4
_MINUTES_BETWEEN_CHECKPOINTS: Final = 5.0


class SparsifyError(UserError):
    """A model, a corpus or a wish that `sparsify` cannot make something of."""


@dataclass(frozen=True)
class Request:
    """What the user asked for; see HELP.

    Attributes:
        more: further arguments of the training command, as flags.
    """

    model: str
    corpus: str
    sparsity: float | None = None
    mask_type: str = "unstructured"
    minutes: float | None = None
    tokens: float | None = None
    teacher: str | None = None
    output_dir: str | None = None
    recipe: str | None = None
    recipe_args: str | None = None
    more: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choices:
    """What a run does.

    Attributes:
        adapts: the zeros stay; otherwise it prunes.
        sparsity: of the result, among the weights of the Transformer layers.
        epochs: passes over the corpus.
        rows: of the longest length in a batch.
        length: the longest, in tokens.
        steps: optimizer steps, about.
        save_steps: between two checkpoints.
        bf16: whether to compute in bfloat16.
        teacher, recipe, output_dir: as the training command takes them.
        recipe_args: variables of the recipe.
        notes: lines for the user.
    """

    adapts: bool
    sparsity: float
    epochs: float
    rows: int
    length: int
    steps: int
    save_steps: int
    bf16: bool
    teacher: str
    recipe: str
    output_dir: str
    recipe_args: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def main(words: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    if not words or "--help" in words or "-h" in words:
        print(HELP)
        return 0
    request = parse(words)
    if started_as_several():
        raise SparsifyError(
            "sparsify was started as several processes, and times the training of one: run it alone, and give the "
            "command that it prints to torchrun."
        )
    chosen = choose(request)
    for note in chosen.notes:
        say(note)
    flags = training_flags(request, chosen)
    say(f"$ sparseml.transformers.masked_language_modeling {shlex.join(flags)}\n")
    _remember(request, chosen)
    from sparseml.transformers import masked_language_modeling

    masked_language_modeling.main(flags)
    say(f"ready: sparseml train --model_name_or_path {chosen.output_dir} --train_file rows.csv")
    return 0


def parse(words: Sequence[str]) -> Request:
    """The request in a command line.

    Raises:
        SparsifyError, ArgumentError: no model, no corpus, or values that will not do.
    """
    from sparseml.options.table import options_of, scan

    own = {name: option for name, option in options_of(Request).items() if name not in ("model", "more")}
    model = words[0] if not words[0].startswith("--") else None
    if model is None:
        raise SparsifyError(
            "MODEL comes first: sparseml sparsify MODEL --corpus FILES. --help says what it takes."
        )
    ours, more = _split(list(words[1:]), own)
    values, _ = scan(ours, own)
    typed = {name: own[name].convert(value) for name, value in values.items()}
    if not typed.get("corpus"):
        raise SparsifyError("--corpus is missing: text files, separated by commas, or a dataset of the Hub.")
    request = Request(model=model, more=tuple(more), **typed)
    for name, least, most in (("sparsity", 0, 1), ("minutes", 0, math.inf), ("tokens", 0, math.inf)):
        value = getattr(request, name)
        if value is not None and not least < value < most:
            raise SparsifyError(f"--{name} {value:g}: it must lie above {least} and below {most:g}.")
    if request.minutes is not None and request.tokens is not None:
        raise SparsifyError("--minutes and --tokens both say how long to train: leave one out.")
    return request


def choose(request: Request) -> Choices:
    """Choose what the request leaves open, by the model, the corpus and this machine; once for an output folder.

    Raises:
        UserError: the model or the corpus cannot be read, or the sparsity is there already.
    """
    from sparseml.new_recipe import plain_text
    from sparseml.new_recipe.plan import SPARSITY
    from sparseml.options.environment import accelerator, fast_bfloat16
    from sparseml.recipe.variables import read_overrides
    from sparseml.session.models import load_tokenizer, resolve

    source = resolve(request.model)
    zeros = plain_text.encoder_sparsity(source)
    adapts = plain_text.adapts(zeros, request.sparsity)
    sparsity = zeros if adapts else request.sparsity or SPARSITY
    folder = request.output_dir or _folder_name(request, sparsity, adapts)
    if (before := _remembered(request, Path(folder))) is not None:
        return before
    fast = fast_bfloat16()
    device = accelerator() or "cpu"
    length = min(_LENGTH, int(load_tokenizer(source).model_max_length))
    rows = max(1, _TOKENS_A_STEP.get(device, _TOKENS_A_STEP["cuda"]) // length)
    notes = [
        f"{request.model}: {zeros:.1%} of the weights of its Transformer layers are zero: "
        + ("they stay, and it is adapted to the texts" if adapts else f"to be pruned to {sparsity:.1%}"),
        f"precision: {'bfloat16, which ' + fast + ' computes fast' if fast else 'float32'}",
    ]
    teacher = request.teacher or plain_text.teacher_of(request.model, adapts or zeros > plain_text.SPARSE)
    notes.append(f"teacher: {'a frozen copy of the model' if teacher == 'self' else teacher}")
    seconds = seconds_per_step(source, rows, length, fast is not None)
    in_corpus = corpus_tokens(request, source)
    tokens = request.tokens or 60 * (request.minutes or 60) / seconds * rows * length
    epochs, steps = round(tokens / in_corpus, 4), round(tokens / (rows * length))
    if steps < 100:
        raise SparsifyError(
            f"{tokens:,.0f} tokens are {steps} steps of {rows * length:,} tokens: too few to learn from. "
            "Give more --minutes, or more --tokens."
        )
    notes.append(
        f"length: {tokens / 1e6:,.1f} M tokens, {epochs:.2f} x the corpus of {in_corpus / 1e6:,.1f} M: {steps:,} steps "
        f"of {rows * length:,} tokens, {seconds:.2f} s each here, about {seconds * steps / 60:.0f} min"
    )
    variables = plain_text.variables(zeros, request.sparsity, request.mask_type, epochs)
    return Choices(
        adapts=adapts,
        sparsity=sparsity,
        epochs=epochs,
        rows=rows,
        length=length,
        steps=steps,
        save_steps=max(50, round(60 * _MINUTES_BETWEEN_CHECKPOINTS / seconds)),
        bf16=fast is not None,
        teacher=teacher,
        recipe=request.recipe or (plain_text.ADAPT if adapts else plain_text.PRUNE),
        output_dir=folder,
        recipe_args={**(variables if request.recipe is None else {}), **read_overrides(request.recipe_args)},
        notes=notes,
    )


def training_flags(request: Request, chosen: Choices) -> list[str]:
    """The arguments of `sparseml.transformers.masked_language_modeling` that carry out the choices."""
    values: dict[str, Any] = {
        "model_name_or_path": request.model,
        "dataset_name" if _is_dataset(request.corpus) else "train_file": request.corpus,
        "recipe": chosen.recipe,
        "distill_teacher": chosen.teacher,
        "output_dir": chosen.output_dir,
        "max_seq_length": chosen.length,
        "per_device_train_batch_size": chosen.rows,
        "per_device_eval_batch_size": chosen.rows,
        "adam_beta2": 0.98,
        # The filter waits for the accelerator at every step.
        "logging_nan_inf_filter": False,
        "logging_steps": max(1, min(50, chosen.steps // 20)),
        "save_strategy": "steps",
        "save_steps": chosen.save_steps,
        "save_total_limit": 1,
    }
    if chosen.recipe_args:
        values["recipe_args"] = json.dumps(chosen.recipe_args)
    flags = [text for name, value in values.items() for text in (f"--{name}", str(value))]
    flags += ["--do_train", "--do_eval", *(["--bf16"] if chosen.bf16 else [])]
    return [*flags, *request.more]


def seconds_per_step(source: Source, rows: int, length: int, bf16: bool) -> float:
    """The time of a training step with its teacher on this machine: the median of some, on random tokens."""
    import statistics

    import torch
    from transformers import AutoModel
    from transformers.utils import logging

    from resparse.progress import waiting

    logging.set_verbosity_error()
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    with waiting("timing a step on this machine"), torch.random.fork_rng(devices=[]):
        model = AutoModel.from_pretrained(source.folder, trust_remote_code=False).float().to(device).train()
        optimizer = torch.optim.AdamW(model.parameters())
        tokens = torch.randint(0, model.config.vocab_size, (rows, length), device=device)
        times = []
        for _ in range(_WARM_UP + _TIMED):
            began = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                with torch.no_grad():
                    model(input_ids=tokens)
                state = model(input_ids=tokens).last_hidden_state
            state.float().square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            state.sum().item()  # waits for an accelerator
            times.append(time.perf_counter() - began)
    return statistics.median(times[_WARM_UP:])


def corpus_tokens(request: Request, source: Source) -> int:
    """The tokens of a pass over the corpus, in the model's vocabulary; it is tokenized here, into the cache."""
    from sparseml.options.table import options_of, scan
    from sparseml.session.models import load_tokenizer
    from sparseml.tasks.masked_language_modeling import CorpusArguments, encoded_corpus

    options = options_of(CorpusArguments)
    words, _ = _split(list(request.more), options)
    given, _ = scan(words, options)
    typed = {name: options[name].convert(value) for name, value in given.items()}
    where = "dataset_name" if _is_dataset(request.corpus) else "train_file"
    arguments = CorpusArguments(**{where: request.corpus, **typed})
    return encoded_corpus(arguments, load_tokenizer(source))


def _is_dataset(corpus: str) -> bool:
    """Whether a corpus is a folder, or named as the Hub names datasets, rather than files."""
    if Path(corpus).expanduser().is_dir():
        return True
    return not any(Path(part).suffix or "*" in part or Path(part).exists() for part in corpus.split(","))


def _folder_name(request: Request, sparsity: float, adapts: bool) -> str:
    name = request.model.partition("?")[0].rstrip("/")
    parts = name.split("/")
    name = parts[2] if name.startswith("zoo:") and len(parts) > 2 else parts[-1]
    return f"{name}-adapted" if adapts else f"{name}-pruned{100 * sparsity:.0f}"


def _split(words: list[str], own: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The words of our own flags, and those of the training command."""
    ours: list[str] = []
    more: list[str] = []
    current = ours
    for word in words:
        if word.startswith("--"):
            current = ours if word[2:].partition("=")[0].replace("-", "_") in own else more
        current.append(word)
    return ours, more


def _remembered(request: Request, folder: Path) -> Choices | None:
    """The choices of the same request that was stopped, from its output folder."""
    try:
        stored = json.loads((folder / CHOICES).read_text(encoding="utf-8"))
        same = stored["request"] == json.loads(json.dumps(asdict(request)))
        return Choices(**stored["choices"]) if same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(request: Request, chosen: Choices) -> None:
    folder = Path(chosen.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CHOICES, {"request": asdict(request), "choices": asdict(chosen)})
