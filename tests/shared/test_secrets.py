"""No keys, tokens or passwords in the repository."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Issuers' own prefixes, so that a match is hardly ever chance.
PATTERNS = {
    "a private key": r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----",
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}\b",
    "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,})\b",
    "a GitLab token": r"\bglpat-[A-Za-z0-9_-]{20,}",
    "a PyPI token": r"\bpypi-[A-Za-z0-9_-]{50,}",
    "an AWS key": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "a Google key": r"\bAIza[A-Za-z0-9_-]{35}\b",
    "a Slack token": r"\bxox[abeprs]-[A-Za-z0-9-]{10,}",
    "a key of an AI service": r"\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{32,}",
    "a password in an address": r"\bhttps?://[^\s/:@'\"{}<>]+:[^\s/@'\"{}<>]{3,}@",
    "a JSON web token": r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
}
_KEY_FILES = re.compile(
    r"(?:^|/)(?:\.env|\.netrc|\.pypirc|id_(?:rsa|ed25519|ecdsa)|[^/]+\.(?:pem|p12|pfx|jks))$"
)


def secrets_in(text: str) -> Iterator[str]:
    """What is found, without repeating it."""
    for kind, pattern in PATTERNS.items():
        for match in re.finditer(pattern, text):
            yield f"line {text.count(chr(10), 0, match.start()) + 1}: {kind} ({match.group()[:6]}...)"


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is no clone of the repository")
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name]


def test_no_secret_is_tracked():
    found = []
    for path in tracked():
        name = path.relative_to(ROOT).as_posix()
        if _KEY_FILES.search(name):
            found.append(f"{name} is a file of keys")
        if path.is_file():
            found += [
                f"{name}, {one}" for one in secrets_in(path.read_text(encoding="utf-8", errors="replace"))
            ]
    assert not found, "\n".join(found)


# In two parts each, so that this file itself is clean.
@pytest.mark.parametrize(
    "parts",
    [
        ("-----BEGIN RSA PRIVATE", " KEY-----"),
        ("hf_", "A1b2C3d4" * 4 + "xy"),
        ("ghp_", "a1B2" * 9),
        ("AKIA", "ABCDEFGH12345678"),
        ("sk-ant-", "a1b2c3d4" * 5),
        ("https://someone:", "word@example.org/x"),
        ("pypi-", "AgEIcHlwaS5vcmc" * 4),
    ],
)
def test_secrets_are_found(parts: tuple[str, str]):
    assert len([*secrets_in(f"one\ntoken = '{''.join(parts)}'\n")]) == 1
    assert not [*secrets_in(parts[0])]
