"""The command `deepsparse.pack`: a deployment as one file for programs in C, see `native/include/resparse.h`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from deepsparse.command_line import ArgumentsError, Parser, normal_options
from deepsparse.deployment import open_deployment
from deepsparse.native import library, packed_file
from resparse.console import output, run, say
from resparse.progress import waiting


def cli() -> int:
    """Run the command with the process's arguments."""
    return run(lambda: main(sys.argv[1:]))


def main(words: Sequence[str]) -> int:
    """Pack, or print the flags."""
    arguments = _parser().parse_args(normal_options(words))
    if arguments.flags:
        library.load()
        output.print(f"-I{packed_file.INCLUDE} {library.file()}")
        return 0
    if not arguments.model or not arguments.output:
        raise ArgumentsError(
            "Which deployment, and which file? deepsparse.pack DEPLOYMENT --output model.resparse"
        )
    path = Path(arguments.output)
    with waiting("packing"):
        size = packed_file.write(open_deployment(arguments.model), path)
    say(f"{path}: {size / 1e6:,.1f} MB, for {library.chosen_isa().name}")
    return 0


def _parser() -> Parser:
    parser = Parser(
        "deepsparse.pack",
        "Pack a deployment, for this processor, into one file that resparse.h loads in C.",
        "for example:\n  deepsparse.pack deployment/ --output model.resparse\n"
        "  cc -o classify classify.c $(deepsparse.pack --flags)",
    )
    add = parser.add_argument
    add("model", nargs="?", help="a deployment folder, an .onnx file, or a zoo: stub")
    add("--output", help="the file")
    add(
        "--flags", action="store_true", help="print what a C compiler needs: the header's folder, the library"
    )
    return parser
