"""The latency of an exported model against the same model, dense, in PyTorch: one text at a time, on this machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resparse.progress import waiting

SECONDS = 2.0
TOKENS = 128


@dataclass(frozen=True)
class Latency:
    """Median milliseconds for one text of `tokens` tokens.

    Attributes:
        deployed: of the exported model, by the runtime.
        dense: of the checkpoint in PyTorch's float32, which does not skip zeros, by one thread or all, whichever is
            faster.
    """

    deployed: float
    dense: float
    engine: str
    cores: int
    cpu: str
    tokens: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def compare(folder: Path, deployment: Path, seconds: float = SECONDS, tokens: int = TOKENS) -> Latency:
    """Measure both, one after the other, each for about `seconds`."""
    import torch

    from deepsparse.engine import Engine
    from deepsparse.hardware import cpu_model
    from deepsparse.workload import Settings, measure, random_feeds
    from sparseml.session.models import load_config, load_model, resolve
    from sparseml.tasks import task_of

    source = resolve(str(folder))
    config = load_config(source)
    length = min(tokens, int(getattr(config, "max_position_embeddings", tokens)))
    with waiting("timing the exported model and the dense one"):
        engine = Engine(str(deployment), 1)
        feeds = random_feeds(engine, Settings(str(deployment), sequence_length=length))
        # The first run prepares memory, and is not counted.
        engine.run(feeds)
        deployed = measure(lambda: engine.run(feeds), seconds, 1)
        model = load_model(source, task_of(config).model_class).model.eval()
        tensors = {name: torch.from_numpy(array) for name, array in feeds.items()}
        # Several threads are slower than one where the model is small, or the machine has other work.
        counts = sorted({1, engine.num_cores})
        dense = min(_dense(model, tensors, threads, seconds / len(counts)) for threads in counts)
    return Latency(
        deployed.milliseconds(50),
        dense,
        engine.engine_type,
        engine.num_cores,
        cpu_model(),
        length,
    )


def _dense(model: Any, tensors: dict[str, Any], threads: int, seconds: float) -> float:
    """The median milliseconds of PyTorch with so many threads."""
    import torch

    from deepsparse.workload import measure

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            model(**tensors)
            return measure(lambda: model(**tensors), seconds, 1).milliseconds(50)
    finally:
        torch.set_num_threads(before)
