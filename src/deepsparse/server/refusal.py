"""What the server answers where it refuses a request."""

from __future__ import annotations


def refusal(words: str) -> dict[str, str]:
    """The body: one sentence, under the name that FastAPI gives it, and that of the Open Inference Protocol."""
    return {"detail": words, "error": words}
