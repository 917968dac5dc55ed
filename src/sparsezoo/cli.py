"""The `sparsezoo` command: searches, shows and downloads models and recipes by their stubs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from resparse import __version__
from resparse.console import run, say
from sparsezoo import search
from sparsezoo.analysis.command import add_arguments, execute
from sparsezoo.common import ZooError
from sparsezoo.model import Model
from sparsezoo.stub import PREFIX, parse_stub


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, or 2 for a mistake of the user's."""
    arguments = _parser().parse_args(argv)
    return run(lambda: arguments.command(arguments))


def download(argv: Sequence[str] | None = None) -> int:
    """The command `sparsezoo.download`, SparseZoo's other name of `sparsezoo download`."""
    return main(["download", *(sys.argv[1:] if argv is None else argv)])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sparsezoo", description="Models and recipes by their zoo: stubs, wherever they live now."
    )
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(required=True, metavar="{download,search,show,analyze}")

    download = verbs.add_parser("download", help="fetch everything that a stub names; prints the folder")
    download.add_argument("stub", help="zoo:..., with @REVISION where you want one")
    download.add_argument(
        "--save-dir", metavar="DIR", help="copy the files there; else they stay in the caches"
    )
    download.add_argument("--revision", help="branch, tag or commit, of what lives on the Hugging Face Hub")
    download.set_defaults(command=_download)

    find = verbs.add_parser("search", help="list the stubs that are known")
    for field in search.FIELDS:
        find.add_argument(f"--{field.replace('_', '-')}", metavar="NAME")
    find.add_argument("--release-version", help=argparse.SUPPRESS)
    find.add_argument("--page", type=_count, default=1, metavar="N")
    find.add_argument("--page-length", type=_count, default=20, metavar="N")
    find.set_defaults(command=_search)

    show = verbs.add_parser(
        "show", help="where a stub's files live, their licence, sizes, and what they need"
    )
    show.add_argument("stub")
    show.set_defaults(command=_show)

    analysis = verbs.add_parser("analyze", help="layers, parameters, zeros, bits and operations of a model")
    add_arguments(analysis)
    analysis.set_defaults(command=execute)
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def _download(arguments: argparse.Namespace) -> int:
    stub = parse_stub(arguments.stub)
    if arguments.revision:
        stub = replace(stub, revision=arguments.revision)
    print(Model(str(stub), download_path=arguments.save_dir).download())
    return 0


def _search(arguments: argparse.Namespace) -> int:
    if arguments.release_version:
        raise ZooError("Release versions ended with the SparseZoo service. Leave --release-version out.")
    wanted = {field: getattr(arguments, field) for field in search.FIELDS}
    if wrong := search.unknown_values(wanted):
        raise ZooError("\n".join(wrong))
    stubs = search.matching_stubs(wanted)
    start = (arguments.page - 1) * arguments.page_length
    shown = stubs[start : start + arguments.page_length]
    if shown:
        rows = [(str(stub), search.stub_contents(stub), search.stub_needs(stub)) for stub in shown]
        _print_columns([("stub", "has", "needs"), *rows])
    pages = -(-len(stubs) // arguments.page_length)
    say(f"{len(shown)} of {len(stubs)}, page {arguments.page} of {pages}" if stubs else "nothing found")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    stub = parse_stub(arguments.stub)
    facts = search.stub_facts(stub)
    print(f"{PREFIX}{stub.name}")
    _print_columns(facts)
    files = search.local_files(stub)
    if files:
        print()
        _print_columns([("size", "file here"), *((_size(path), str(path)) for path in files)])
    return 0


def _print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Print rows as columns of text. Lines are never wrapped, so that stubs can be copied and piped."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _size(path: Path) -> str:
    size = float(path.stat().st_size)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
