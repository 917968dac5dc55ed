"""Settings of the Hub's clients (`datasets`, `huggingface_hub`) while we use them; put back afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any


@contextmanager
def client_settings() -> Iterator[None]:
    """Keep the clients' bars and log lines off the screen, and have no downloads counted."""
    import datasets
    from huggingface_hub import logging

    # Public there, though its types do not say so.
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    levels = datasets.logging.get_verbosity(), logging.get_verbosity()
    bars = datasets.are_progress_bars_disabled(), are_progress_bars_disabled()
    datasets.logging.set_verbosity_error()
    logging.set_verbosity_error()
    datasets.disable_progress_bars()
    disable_progress_bars()
    try:
        with _attribute(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False):
            yield
    finally:
        datasets.logging.set_verbosity(levels[0])
        logging.set_verbosity(levels[1])
        if not bars[0]:
            datasets.enable_progress_bars()
        if not bars[1]:
            enable_progress_bars()


@contextmanager
def offline() -> Iterator[None]:
    """Have the clients look into their caches only, as HF_HUB_OFFLINE=1 would."""
    import datasets
    import huggingface_hub

    with ExitStack() as stack:
        # Each client has read the variable into a constant of its own at import.
        stack.enter_context(_attribute(huggingface_hub.constants, "HF_HUB_OFFLINE", True))
        stack.enter_context(_attribute(datasets.config, "HF_HUB_OFFLINE", True))
        yield


@contextmanager
def _attribute(holder: Any, name: str, value: object) -> Iterator[None]:
    before = getattr(holder, name)
    setattr(holder, name, value)
    try:
        yield
    finally:
        setattr(holder, name, before)
