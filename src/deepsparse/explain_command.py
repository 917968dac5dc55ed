"""`sparseml explain`: which words of a text moved its label."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from deepsparse.backends import AUTOMATIC
from deepsparse.command_line import Parser, normal_options
from deepsparse.explain import WAYS, explain
from deepsparse.explain_output import page, shown
from deepsparse.pipeline import USUAL_LENGTH, Pipeline
from resparse.console import output, say
from resparse.files import write_text

_TOP_K = 10


def main(words: Sequence[str]) -> int:
    """Run the command."""
    arguments = _parser().parse_args(normal_options(words))
    pipeline = Pipeline.create(
        model_path=arguments.model,
        sequence_length=arguments.sequence_length,
        engine_type=arguments.engine,
        num_cores=arguments.num_cores,
    )
    task = pipeline.handler
    texts = [text for text in (arguments.text, arguments.text_pair) if text is not None]
    row = task.parse_values(texts, "--text")
    explanation = explain(pipeline, row, label=arguments.label, occluded=arguments.occlude)
    if arguments.html:
        write_text(Path(arguments.html), page(explanation, arguments.top_k))
    if arguments.json:
        print(json.dumps(explanation.as_json(arguments.top_k), ensure_ascii=False))
    else:
        output.print(shown(explanation, arguments.top_k))
    if arguments.html:
        say(f"page: {arguments.html}")
    return 0


def _parser() -> Parser:
    parser = Parser(
        "sparseml explain",
        "Show which words of a text moved its label: each is left out in turn, and what the label's score loses is the "
        "word's weight. Green speaks for the label, red against it.",
        'for example:\n  sparseml explain deployment/ --text "What a day!"',
    )
    add = parser.add_argument
    add("model", help="a deployment folder, an .onnx file, or a zoo: stub")
    add("--text", required=True, help="the text")
    add("--text-pair", help="the second text, for models of pairs")
    add("--label", help="the label to explain [the best one]")
    add(
        "--top-k", type=parser.count, default=_TOP_K, help="words in the table, strongest first [%(default)s]"
    )
    add(
        "--occlude",
        choices=WAYS,
        default=WAYS[0],
        help="take words out, or put the mask token there [%(default)s]",
    )
    add("--json", action="store_true", help="print JSON: every word with its place and weight")
    add("--html", metavar="FILE", help="write a page, too, that needs nothing else")
    add(
        "--sequence-length",
        type=parser.count,
        default=USUAL_LENGTH,
        help="tokens of a text [128, or the model's own]",
    )
    add("--engine", default=AUTOMATIC, help="native, onnxruntime, openvino, ... [the best here]")
    add("--num-cores", type=parser.count, help="threads that compute [all cores]")
    return parser
