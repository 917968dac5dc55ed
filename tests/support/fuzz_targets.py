"""The readers of foreign input that are fuzzed: recipes, names, rows, models and their settings, requests.

A target that needs a whole folder takes one in order, and replaces the one file that the input is.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from support.fuzzing import FaultError, Target

_YAML = (
    b"\n  - ",
    b"&a ",
    b"*a",
    b"<<: ",
    b": ",
    b"!A",
    b"eval(",
    b")",
    b"modifiers:",
    b"[",
    b"{",
    b"'",
    b"**",
    b"e9",
)
_JSON = (b"{", b"}", b"[", b"]", b'"', b",", b":", b"1e999", b"\\ud800", b"\n")
_BINARY = (b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", b"\x00" * 8, b"\xff" * 8)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def recipe(data: bytes, folder: Path) -> None:
    """A recipe is read, written and read again."""
    from sparseml.recipe import load_plan

    plan = load_plan(_written(folder, "recipe.yaml", data))
    if load_plan(plan.to_yaml()).to_yaml() != plan.to_yaml():
        raise FaultError("the recipe is another one when it is written and read again")


def modifiers(data: bytes, folder: Path) -> None:
    """A recipe becomes modifiers."""
    from sparseml.modifiers import build
    from sparseml.recipe import load_plan

    build(load_plan(_written(folder, "recipe.yaml", data)))


def expression(data: bytes, folder: Path) -> None:
    """A variable is overridden with what an expression computes."""
    from sparseml.recipe import load_plan

    load_plan("rate: 1\nmodifiers:\n  - !A {b: eval(rate)}\n", _text(data))


def stub(data: bytes, folder: Path) -> None:
    """A stub is parsed, and stays below the zoo's home."""
    from sparsezoo.common import home
    from sparsezoo.resolve import user_folder
    from sparsezoo.stub import parse_stub

    parsed = parse_stub(_text(data))
    if parse_stub(str(parsed)) != parsed:
        raise FaultError("the stub is another one when it is written and parsed again")
    user_folder(parsed)
    if not home().joinpath(*parsed.name.split("/")).resolve().is_relative_to(home().resolve()):
        raise FaultError(f"{parsed.name} leaves the zoo's home")


def _rows(suffix: str) -> Callable[[bytes, Path], None]:
    def feed(data: bytes, folder: Path) -> None:
        from resparse.errors import UserError
        from sparseml.data.readers import read_file

        path = _written(folder, f"rows.{suffix}", data)
        refused: UserError | None = None
        try:
            read_file(path)
        except UserError as error:
            refused = error
        if suffix != "parquet":
            from deepsparse.tables import open_table

            table = open_table(path)
            for _ in table.rows(table.start):
                pass
        if refused is not None:
            raise refused

    return feed


@cache
def _deployment() -> Path:
    from support.deployment import deployment

    return deployment(Path(tempfile.mkdtemp(prefix="fuzz-")))


def _copied(source: Path, folder: Path, name: str, data: bytes) -> Path:
    """The files of a folder in another, one of them replaced."""
    for path in source.iterdir():
        if path.name != name:
            (folder / path.name).symlink_to(path)
    _written(folder, name, data)
    return folder


def _deployed(name: str, engine: str) -> Callable[[bytes, Path], None]:
    def feed(data: bytes, folder: Path) -> None:
        from deepsparse import Pipeline

        classify = Pipeline.create("glue", _copied(_deployment(), folder, name, data), engine_type=engine)
        try:
            classify(["a very happy film", "sad"])
        finally:
            classify.close()

    return feed


@cache
def _checkpoint() -> Path:
    from support import tiny

    return tiny.bert(Path(tempfile.mkdtemp(prefix="fuzz-")), names=["bad", "good"])


def _trained(name: str) -> Callable[[bytes, Path], None]:
    def feed(data: bytes, folder: Path) -> None:
        from sparseml.session.models import Source, load_config, load_tokenizer

        source = Source("fuzzed", _copied(_checkpoint(), folder, name, data))
        (load_config if name == "config.json" else load_tokenizer)(source)

    return feed


def onnx(data: bytes, folder: Path) -> None:
    """A model is read and recognized by the native engine."""
    from deepsparse.native.onnx_graph import read
    from deepsparse.native.recognition import recognize

    recognize(read(_written(folder, "model.onnx", data)))


def analyzed(suffix: str) -> Callable[[bytes, Path], None]:
    """A file of weights, or a graph, is analyzed."""

    def feed(data: bytes, folder: Path) -> None:
        from sparsezoo import analyze

        found = analyze(_written(folder, f"model.{suffix}", data))
        json.dumps(found.as_json())

    return feed


def safetensors(data: bytes, folder: Path) -> None:
    """A checkpoint's state is read."""
    from sparseml.session import checkpoint

    _written(folder, checkpoint.STATE_FILE, data)
    _written(
        folder,
        checkpoint.RECIPE_FILE,
        b"modifiers:\n  - !EpochRangeModifier {start_epoch: 0, end_epoch: 1}\n",
    )
    checkpoint.saved(folder)


def packed(data: bytes, folder: Path) -> None:
    """A packed encoder of the zoo is unpacked."""
    from sparsezoo.packed import read_packed

    read_packed(_written(folder, "packed.npz", data))


def body(data: bytes, folder: Path) -> None:
    """Bodies of requests are parsed: of every task, plain or with binary tensors behind; of other routes."""
    from deepsparse import tasks
    from deepsparse.server.other_servers import parse_classify, parse_predict
    from deepsparse.server.requests import parse_benchmark, parse_infer
    from resparse.errors import UserError

    end = str(data.rfind(b"}") + 1)
    ways: list[Callable[[], object]] = [partial(parse_classify, data), partial(parse_predict, data)]
    for task in map(tasks.find, tasks.names()):
        ways += [partial(parse, data, task) for parse in (parse_infer, parse_benchmark)]  # type: ignore[operator]
        ways.append(partial(parse_infer, data, task, end))
    refused: list[UserError] = []
    for parsed in ways:
        try:
            parsed()
        except UserError as error:
            refused.append(error)
    if len(refused) == len(ways):
        raise refused[-1]


def endpoint(data: bytes, folder: Path) -> None:
    """The body of POST /endpoints is parsed."""
    from deepsparse.server.config import parse_config
    from deepsparse.server.requests import parse_object

    for one in parse_config({"endpoints": [parse_object(data)]}, "endpoint").endpoints:
        _ = one.served_as, one.settings()


def server(data: bytes, folder: Path) -> None:
    """The server's configuration is read."""
    from deepsparse.server.config import load_config

    load_config(_written(folder, "config.yaml", data)).without_effect()


def report(data: bytes, folder: Path) -> None:
    """A trained folder's report becomes a page, whose every text is escaped."""
    from sparseml.report_page.facts import read
    from sparseml.report_page.page import page

    facts = read(_copied(_checkpoint(), folder, "report.json", data))
    if b"<script" in page(facts, None).encode("utf-8", "replace"):
        raise FaultError("a script in the page")


def card(data: bytes, folder: Path) -> None:
    """The front matter of a start's model card is read."""
    from sparseml.model_card.origin import origin_of

    _written(folder, "README.md", data)
    origin_of(str(folder), folder)


_RECIPE = ("sparseml.recipe",)
_SERVER = ("deepsparse.server", "deepsparse.tasks")

TARGETS = {
    target.name: target
    for target in (
        Target("recipe", recipe, _RECIPE, _YAML),
        Target("modifiers", modifiers, ("sparseml.recipe", "sparseml.modifiers"), _YAML),
        Target("recipe_args", expression, _RECIPE, (*_JSON, *_YAML)),
        Target(
            "stub", stub, ("sparsezoo.stub",), (b"zoo:", b"/", b"-", b"@", b"..", b"?", b"=", b"&", b"\\")
        ),
        Target(
            "csv",
            _rows("csv"),
            ("sparseml.data", "deepsparse.tables"),
            (b'"', b",", b";", b"\r", b"\n", b'""'),
        ),
        Target("tsv", _rows("tsv"), ("sparseml.data", "deepsparse.tables"), (b'"', b"\t", b"\r", b"\n")),
        Target("json", _rows("jsonl"), ("sparseml.data", "deepsparse.tables"), _JSON),
        Target("parquet", _rows("parquet"), ("sparseml.data",), (b"PAR1", *_BINARY)),
        Target("deployed_config", _deployed("config.json", "onnxruntime"), ("deepsparse",), _JSON),
        Target("deployed_tokenizer", _deployed("tokenizer.json", "onnxruntime"), ("deepsparse",), _JSON),
        Target(
            "deployed_settings", _deployed("tokenizer_config.json", "onnxruntime"), ("deepsparse",), _JSON
        ),
        Target("trained_config", _trained("config.json"), ("sparseml.session",), _JSON),
        Target("trained_tokenizer", _trained("tokenizer.json"), ("sparseml.session",), _JSON),
        Target("trained_settings", _trained("tokenizer_config.json"), ("sparseml.session",), _JSON),
        Target("onnx", onnx, ("deepsparse.native",), _BINARY),
        Target("onnx_analyzed", analyzed("onnx"), ("sparsezoo.analysis",), _BINARY),
        Target("safetensors", safetensors, ("sparseml.session",), (*_JSON, *_BINARY)),
        Target("safetensors_analyzed", analyzed("safetensors"), ("sparsezoo.analysis",), (*_JSON, *_BINARY)),
        Target("packed", packed, ("sparsezoo.packed",), _BINARY),
        Target("body", body, _SERVER, _JSON),
        Target("endpoint", endpoint, _SERVER, _JSON),
        Target("server", server, _SERVER, _YAML),
        Target("report", report, ("sparseml.report_page",), (*_JSON, b"<script>")),
        Target("card", card, ("sparseml.model_card",), (*_YAML, b"---\n")),
    )
}


def in_order(target: Target) -> dict[str, Any]:
    """The values of a JSON target's first input in the corpus."""
    return dict(json.loads(target.corpus()[0]))


def remove_folders() -> None:
    """Remove the folders that targets have made."""
    for made in (_deployment, _checkpoint):
        if made.cache_info().currsize:
            shutil.rmtree(made())
            made.cache_clear()
