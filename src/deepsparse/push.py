"""The command `deepsparse.push`: a deployment as a repository of the Hugging Face Hub, which `hf:OWNER/NAME` loads."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from deepsparse.command_line import ArgumentsError, Parser, normal_options
from deepsparse.deployment import MODEL, Deployment, open_deployment
from deepsparse.deployment_card import card
from deepsparse.errors import ModelError
from deepsparse.pipeline import Pipeline
from resparse.console import run, say
from resparse.progress import waiting

if TYPE_CHECKING:
    from sparsezoo.hub_repo import HubRepo

_CARD = "README.md"


def cli() -> int:
    """Run the command with the process's arguments."""
    return run(lambda: main(sys.argv[1:]))


def main(words: Sequence[str]) -> int:
    """Check that a deployment answers, then push it."""
    from sparsezoo.hub_upload import create

    arguments = _parser().parse_args(normal_options(words))
    called = arguments.hub_model_id or arguments.name
    if not arguments.model or not called:
        raise ArgumentsError(
            "Which deployment, and to which repository? deepsparse.push DEPLOYMENT OWNER/NAME"
        )
    deployment = open_deployment(arguments.model)
    check_pushable(deployment)
    Pipeline.create(model_path=deployment).close()
    repo = create(called, None, arguments.hub_private_repo or None)
    say(f"pushed: {push(deployment, repo)}")
    return 0


def check_pushable(deployment: Deployment) -> None:
    """Refuse a model of another name than the one by which it is found on the Hub, with a ModelError."""
    if deployment.model.name != MODEL:
        raise ModelError(f"On the Hub a model is found by the name {MODEL}; this is {deployment.model.name}.")


def push(deployment: Deployment, repo: HubRepo) -> str:
    """Upload a deployment's folder in one commit, and return the repository's address.

    A card (README.md) is written where neither the folder nor the repository has one.

    Raises:
        PushError: the Hub takes it not, or not now.
    """
    from sparsezoo.hub_download import list_files
    from sparsezoo.hub_upload import PRIVATE, address, clear_errors, linked, upload

    with clear_errors(repo, deployment.folder), waiting(f"uploading to {repo.name}"):
        _, there = list_files(repo, None)
        staged = linked(deployment.folder)
        try:
            if _CARD not in there and not (staged / _CARD).exists():
                (staged / _CARD).write_text(card(deployment, repo.name), encoding="utf-8")
            upload(repo, staged, PRIVATE, "Deployment")
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    return address(repo)


def _parser() -> Parser:
    parser = Parser(
        "deepsparse.push",
        "Push a deployment to the Hugging Face Hub; hf:OWNER/NAME loads it, wherever a model is named.",
        "for example:\n  deepsparse.push deployment/ me/my-classifier\n"
        "  deepsparse.server --task text_classification --model_path hf:me/my-classifier",
    )
    add = parser.add_argument
    add("model", nargs="?", help="a deployment folder")
    add("name", nargs="?", metavar="OWNER/NAME", help="the repository; without OWNER/, among your own")
    add("--hub-model-id", help="the same as OWNER/NAME")
    add("--hub-private-repo", action="store_true", help="make the repository private, if there is none yet")
    return parser


if __name__ == "__main__":
    raise SystemExit(cli())
